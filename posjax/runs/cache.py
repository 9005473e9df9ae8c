"""The cache: stages of images in a folder, written once by one process, and read by many."""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from errno import EDQUOT, EFBIG, EINVAL, ENOSPC, ENOSYS, EOPNOTSUPP
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from posjax.runs.locks import locked
from posjax.runs.records import write_atomically
from posjax.runs.stage_files import StageFile, damaged, header_of, open_stage

Layout = Mapping[str, jax.ShapeDtypeStruct]
"""Shape [n, h, w, c] and dtype of every stage of n images."""

SECONDS_BETWEEN = 5.0
"""How much work a killed process loses at most: rows are made safe on disk as often as this."""

_ABOUT = "about.json"
_NO_ROOM = (ENOSPC, EDQUOT, EFBIG)
_CANNOT_RESERVE = (EOPNOTSUPP, EINVAL, ENOSYS)


def read(folder: Path) -> dict[str, StageFile]:
    """The stages that `fill` left in `folder`.

    Raises:
        ValueError: a file is missing, cut or not what it should be; names the folder.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text())
        stages = {}
        for name, shape in about["stages"].items():
            if shape[0] != about["done"]:
                raise ValueError(f"{about['done']} of {shape[0]} images are there")
            layout = jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(about["dtype"]))
            stages[name] = open_stage(folder / f"{name}.npy", layout)
        return stages
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise damaged(folder, error) from error


def fill(
    folder: Path,
    layout: Layout,
    rows_from: Callable[[int], Iterable[Mapping[str, np.ndarray]]],
    limit_bytes: int | None = None,
) -> bool:
    """Writes the rows that `rows_from(0)` yields, and shows `folder` when they are all there.

    Of several processes one writes, the others wait for it. What a killed one left is continued
    by `rows_from(done)`. Returns False, and writes nothing, where all that the folder around
    `folder` holds would exceed `limit_bytes`.

    Raises:
        OSError: there is no room on disk, or the files were deleted meanwhile; names the folder.
        ValueError: as `rows_from`.
    """
    around, name = folder.parent, folder.name
    waiting = f"another run encodes the same images into {folder}: waiting for it to end"
    with (
        locked(around / f".{name}.lock", waiting),
        _Unfinished(around / f".{name}.partial", layout) as unfinished,
    ):
        if folder.exists():
            return True
        # So that no other run takes the room between the check and the reservation.
        with locked(around / ".room.lock"):
            if limit_bytes is not None:
                others = room_taken(around) - room_taken(unfinished.path)
                if others + unfinished.size > limit_bytes:
                    return False
            unfinished.reserve()
        for rows in rows_from(unfinished.done):
            unfinished.append(rows)
        unfinished.finish(folder)
    return True


def room_taken(folder: Path) -> int:
    """Bytes of all files in a folder, at any depth; 0 where there is none."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            # Another run may rename or delete its files just now.
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


class _Unfinished:
    """The files of a folder that is being written: closed at the end, and kept to go on from."""

    def __init__(self, path: Path, layout: Layout):
        self.path = path
        self.layout = layout
        self.count = next(iter(layout.values())).shape[0]
        self.headers = {name: header_of(stage) for name, stage in layout.items()}
        self.row_bytes = {
            name: math.prod(stage.shape[1:]) * stage.dtype.itemsize
            for name, stage in layout.items()
        }
        self.done = self.safe = 0  # rows written, rows known to be on disk
        self.size = sum(self._end(name, self.count) for name in layout)
        self.saved = 0.0
        self.files: dict[str, int] = {}

    def __enter__(self) -> "_Unfinished":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # An image that cannot be read will be another one next time, at another address.
        useless = self.safe == 0 or (kind is not None and issubclass(kind, ValueError))
        if kind is not None and useless and self._is_there():
            shutil.rmtree(self.path, ignore_errors=True)
        for descriptor in self.files.values():
            os.close(descriptor)

    def reserve(self) -> None:
        """Finds what a killed process left, and takes the room for the other rows."""
        self.done = self.safe = self._found()
        if not self.done:
            shutil.rmtree(self.path, ignore_errors=True)
        with self._named_errors():
            self.path.mkdir(exist_ok=True)
            # A process that was killed while it wrote what it had done left that under this name.
            for unfinished in self.path.glob(f".{_ABOUT}.*.tmp"):
                unfinished.unlink()
            for name, header in self.headers.items():
                self.files[name] = os.open(self._file(name), os.O_RDWR | os.O_CREAT, 0o666)
                os.ftruncate(self.files[name], self._end(name, self.done))
                _write(self.files[name], header, 0)
                _reserve(self.files[name], self._end(name, self.count))
            self._save()

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Writes the next rows of every stage."""
        with self._named_errors():
            self._check_there()
            for name, values in rows.items():
                data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
                _write(self.files[name], data, self._end(name, self.done))
            self.done += len(next(iter(rows.values())))
            if time.monotonic() - self.saved >= SECONDS_BETWEEN:
                self._save()

    def finish(self, folder: Path) -> None:
        """Shows the rows under their final name."""
        if self.done != self.count:
            raise ValueError(f"{folder} was to get {self.count} images, found {self.done}")
        with self._named_errors():
            self._check_there()
            self._save()
            os.rename(self.path, folder)
            _sync(folder.parent)

    def _end(self, name: str, rows: int) -> int:
        return len(self.headers[name]) + rows * self.row_bytes[name]

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    def _about(self) -> dict[str, object]:
        stages = {name: list(stage.shape) for name, stage in self.layout.items()}
        (dtype,) = {stage.dtype.name for stage in self.layout.values()}
        return {"dtype": dtype, "stages": stages, "done": self.done}

    def _save(self) -> None:
        for descriptor in self.files.values():
            os.fsync(descriptor)
        write_atomically(self.path / _ABOUT, json.dumps(self._about()).encode())
        self.safe, self.saved = self.done, time.monotonic()

    def _found(self) -> int:
        """How many rows are safe; 0 where anything is not as it was left."""
        try:
            about = json.loads((self.path / _ABOUT).read_text())
            done = about["done"]
            same = about == self._about() | {"done": done} and 0 <= done <= self.count
            whole = all(self._file(n).stat().st_size >= self._end(n, done) for n in self.layout)
            return done if same and whole else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _is_there(self) -> bool:
        """Whether the open files are those that the folder names."""
        try:
            return all(
                os.path.samestat(os.stat(self._file(name)), os.fstat(descriptor))
                for name, descriptor in self.files.items()
            )
        except FileNotFoundError:
            return False

    def _check_there(self) -> None:
        if not self._is_there():
            raise FileNotFoundError(self.path)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        around = self.path.parent
        try:
            yield
        except FileNotFoundError as error:
            raise OSError(
                f"features in {around} were deleted while they were written: start the run again"
            ) from error
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            for name, descriptor in self.files.items():
                os.ftruncate(descriptor, self._end(name, self.safe))
            needed = self.size - sum(self._end(name, self.safe) for name in self.files)
            raise OSError(
                f"no room for features in {around} ({error.strerror}): {needed:,} bytes needed, "
                f"{shutil.disk_usage(around).free:,} free. Choose another folder with --cache_dir, "
                "or encode anew what does not fit with --cache_limit_gb (0 stores nothing)"
            ) from error


def _write(descriptor: int, data: bytes | np.ndarray, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def _reserve(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        # Where the file system cannot reserve, writing says that it is full.
        if error.errno not in _CANNOT_RESERVE:
            raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
