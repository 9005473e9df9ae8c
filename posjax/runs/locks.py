"""Locks between processes, which fall with the process that holds them."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from posjax.runs import progress


@contextlib.contextmanager
def locked(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Holds a file that one process at a time can hold; says `waiting` where another one does.

    The lock is the kernel's: the file that a killed process leaves behind locks nobody out. Its
    folder is made where there is none.

    Raises:
        OSError: the file system has no locks; names the folder.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the folder was deleted just now
            stack.callback(os.close, descriptor)
            _wait(descriptor, path, waiting)
            if not _is_named(descriptor, path):
                continue  # its holder deleted it
            try:
                yield
            finally:
                if _is_named(descriptor, path):
                    path.unlink(missing_ok=True)
            return


def _wait(descriptor: int, path: Path, waiting: str | None) -> None:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                progress.note(waiting)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise OSError(
            f"{path.parent} cannot be locked ({error.strerror}): choose another --cache_dir"
        ) from error


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
