"""Where stages are kept: in memory, or in one file for an encoder and a set of images."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from posjax.features.encoding import Batch, layout_bytes
from posjax.features.stage_file import StageFile, damaged
from posjax.runtime import locked

Layout = Mapping[str, jax.ShapeDtypeStruct]
"""Shape [n, h, w, c] and dtype of every stage of n images."""

ALIGNMENT = 64
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
        return None if size <= self.memory_bytes or self.scratch is None else self.scratch

    def fits(self, size: int) -> bool:
        """Whether stages of so many bytes may be kept, beside those that the folder holds."""
        folder = self.folder(size)
        if folder is None or self.limit_bytes is None:
            return True
        return disk_usage(folder) + size <= self.limit_bytes


def read(path: Path) -> dict[str, StageFile]:
    """The stages that `write` left.

    Raises:
        ValueError: the file is cut or not what it should be; names it.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("it does not begin with a header")
            about = json.loads(file.read(length))
        layout = {
            name: jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(about["dtype"]))
            for name, shape in about["stages"].items()
        }
        _, offsets, size = _geometry(layout)
        if path.stat().st_size != size:
            raise ValueError(f"{path.stat().st_size} bytes, expected {size}")
        return {name: StageFile(path, layout[name], offsets[name]) for name in layout}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise damaged(path, error) from error


def write(path: Path, layout: Layout, batches: Iterable[Batch]) -> None:
    """Writes the rows of `batches` to a file that is there whole or not at all.

    Raises:
        OSError: there is no room on the disk; names the folder. The file was deleted meanwhile.
        ValueError: as `batches`.
    """
    header, offsets, size = _geometry(layout)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise OSError(_no_room(path.parent, size, free))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    done, expected = 0, next(iter(layout.values())).shape[0]
    named = functools.partial(_named_errors, path.parent, size)
    with _removed_after(temporary):
        with named():
            file = open(temporary, "wb", buffering=0)  # noqa: SIM115 (closed below)
        with file:
            with named():
                _write_at(file, 0, memoryview(header))
            # What reading an image raises is no error of this file.
            for batch in batches:
                with named():
                    for name, rows in batch.items():
                        offset = offsets[name] + done * rows[0].nbytes
                        _write_at(file, offset, _bytes_of(rows))
                done += len(next(iter(batch.values())))
            with named():
                file.truncate(size)
                os.fsync(file.fileno())
        if done != expected:
            raise ValueError(f"{path} was to get {expected} images, found {done}")
        with named():
            os.replace(temporary, path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[bool]:
    """Holds the lock of a file of features. Gives whether another process wrote it meanwhile."""
    waiting = f"another run encodes the same images into {path}: waiting for it to end"
    with locked(path.with_name(f".{path.name}.lock"), waiting):
        for left in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
            left.unlink()
        yield path.exists()


def file_bytes(layout: Layout) -> int:
    """The size of the file of a layout."""
    return _geometry(layout)[2]


def disk_usage(folder: Path) -> int:
    """Bytes of all files in a folder, at any depth; 0 where there is none."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            # Another run may rename or delete its files just now.
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def _geometry(layout: Layout) -> tuple[bytes, dict[str, int], int]:
    """The first bytes of a file, where each stage begins, and the size of the whole file."""
    (dtype,) = {stage.dtype.name for stage in layout.values()}
    stages = {name: list(stage.shape) for name, stage in layout.items()}
    text = json.dumps({"dtype": dtype, "stages": stages}).encode()
    header = len(text).to_bytes(8, "little") + text
    offsets, end = {}, len(header)
    for name, stage in layout.items():
        offsets[name] = -(-end // ALIGNMENT) * ALIGNMENT
        end = offsets[name] + layout_bytes({name: stage})
    return header, offsets, end


def _bytes_of(rows: np.ndarray) -> memoryview:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data


def _write_at(file: io.FileIO, offset: int, data: memoryview) -> None:
    file.seek(offset)
    while data:
        data = data[file.write(data) :]


@contextlib.contextmanager
def _removed_after(temporary: Path) -> Iterator[None]:
    try:
        yield
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _named_errors(folder: Path, size: int) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise OSError(
            f"features in {folder} were deleted while they were written: start the run again"
        ) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        message = f"{_no_room(folder, size, shutil.disk_usage(folder).free)} ({error.strerror})"
        raise OSError(message) from error


def _no_room(folder: Path, size: int, free: int) -> str:
    return (
        f"no room for features in {folder}: {size:,} bytes needed, {free:,} free. Choose another "
        "cache_dir, or cache_limit_gb=0, which keeps nothing and encodes each batch again"
    )
