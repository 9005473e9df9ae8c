"""Where stages are kept: in memory, or in one file for an encoder and a set of images."""

import contextlib
import dataclasses
import math
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator, Mapping
from errno import EDQUOT, EFBIG, ENOENT, ENOSPC
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int

from posjax.features.encoding import Batch, layout_bytes
from posjax.runtime import locked, replacing

Layout = Mapping[str, jax.ShapeDtypeStruct]
"""Shape [n, h, w, c] and dtype of every stage of n images."""

SUFFIX = ".features"
_NO_ROOM = (ENOSPC, EDQUOT, EFBIG)


@dataclasses.dataclass(frozen=True)
class Store:
    """Where the stages of encoders are kept.

    `cache_dir` keeps them for later runs. Without it they are kept in memory where they take no
    more than `memory_bytes` each, else in `scratch`. `limit_bytes` bounds what a folder holds.
    Stages that do not fit there are not kept.
    """

    cache_dir: Path | None = None
    scratch: Path | None = None
    limit_bytes: int | None = None
    memory_bytes: int = 0

    def check(self) -> None:
        """Makes the folder of `cache_dir` where there is none.

        Raises:
            OSError: it cannot be made or written to; names it.
        """
        if self.cache_dir is None:
            return
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            if not os.access(self.cache_dir, os.W_OK | os.X_OK):
                raise PermissionError("no permission to write")
        except OSError as error:
            raise OSError(
                f"cache_dir={self.cache_dir} cannot take features ({error}): choose another"
            ) from error

    def folder(self, size: int) -> Path | None:
        """The folder for stages of so many bytes, or None for the memory."""
        if self.cache_dir is not None:
            return self.cache_dir
        return None if size <= self.memory_bytes else self.scratch

    def fits(self, size: int) -> bool:
        """Whether stages of so many bytes may be kept, beside those that the folder holds."""
        folder = self.folder(size)
        if folder is None or self.limit_bytes is None:
            return True
        return disk_usage(folder) + size <= self.limit_bytes


class StageFile:
    """One stage of n images, [n, h, w, c], in a file. Rows are read when indexed."""

    def __init__(self, path: Path, stage: jax.ShapeDtypeStruct, offset: int, step: int):
        self.path, self.shape, self.dtype = path, stage.shape, stage.dtype
        # Image i begins at byte `offset + i * step` of the file.
        self._size, self._offset, self._step = _image_bytes(stage), offset, step
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (it stays open)
        weakref.finalize(self, self._file.close)

    def __getitem__(self, index: Int[np.ndarray, " m"]) -> np.ndarray:
        """The chosen images. Several threads may read at once.

        Raises:
            IndexError: an index that is not in 0 … n − 1.
            ValueError: the file was cut while it was open; names it.
        """
        count = self.shape[0]
        if index.size and not (index.min() >= 0 and index.max() < count):
            raise IndexError(f"{self.path} has {count} images, found {index} of them")
        rows = np.empty((len(index), *self.shape[1:]), self.dtype)
        for row, image in enumerate(index.tolist()):
            start = self._offset + image * self._step
            content = os.pread(self._file.fileno(), self._size, start)
            if len(content) < self._size:
                raise _damaged(self.path, "it was cut while it was read")
            rows[row] = np.frombuffer(content, self.dtype).reshape(self.shape[1:])
        return rows


def read(path: Path, layout: Layout) -> dict[str, StageFile]:
    """The stages that `write` left in a file.

    Raises:
        ValueError: the file has another size; names it.
    """
    size, expected = path.stat().st_size, layout_bytes(layout)
    if size != expected:
        raise _damaged(path, f"{size} bytes, expected {expected}")
    step = sum(map(_image_bytes, layout.values()))
    stages, offset = {}, 0
    for name, stage in layout.items():
        stages[name] = StageFile(path, stage, offset, step)
        offset += _image_bytes(stage)
    return stages


def write(path: Path, layout: Layout, batches: Iterable[Batch]) -> None:
    """Writes all stages, image by image, to a file that is there whole or not at all.

    Raises:
        OSError: there is no room on the disk; names the folder. The file was deleted meanwhile.
        ValueError: as `batches`.
    """
    size, free = layout_bytes(layout), shutil.disk_usage(path.parent).free
    if size > free:
        raise OSError(_no_room(path.parent, size, free))
    try:
        with replacing(path) as file:
            for batch in batches:
                stages = [np.ascontiguousarray(batch[name]).view(np.uint8) for name in layout]
                images = [stage.reshape(len(stage), -1) for stage in stages]
                file.write(np.concatenate(images, axis=1).data)
    except OSError as error:
        if error.errno in _NO_ROOM:
            free = shutil.disk_usage(path.parent).free
            message = f"{_no_room(path.parent, size, free)} ({error.strerror})"
        elif error.errno == ENOENT and str(error.filename).endswith(".tmp"):
            message = f"features in {path.parent} were deleted while they were written: start again"
        else:
            raise
        raise OSError(message) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Holds the lock of a file of features, and removes what a killed process left of it."""
    waiting = f"another run encodes the same images into {path}: waiting for it to end"
    with locked(path.with_name(f".{path.name}.lock"), waiting):
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink()
        yield


def disk_usage(folder: Path) -> int:
    """Bytes of all files in a folder, at any depth; 0 where there is none."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            # Another run may rename or delete its files just now.
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def _image_bytes(stage: jax.ShapeDtypeStruct) -> int:
    return math.prod(stage.shape[1:]) * stage.dtype.itemsize


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"the features in {path} are damaged ({reason}): delete that file to encode the images "
        "again"
    )


def _no_room(folder: Path, size: int, free: int) -> str:
    return (
        f"no room for features in {folder}: {size:,} bytes needed, {free:,} free. Choose "
        "cache_dir=FOLDER on another disk, or cache_limit_gb=0, which keeps nothing and encodes "
        "each batch again"
    )
