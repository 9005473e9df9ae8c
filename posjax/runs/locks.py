"""Locks between processes, which fall with the process that holds them."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from posjax.runs import progress


@contextlib.contextmanager
def locked(
    path: Path, waiting: str | None = None, give_up: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Holds a file that one process at a time can hold; says `waiting` where another one does.

    Where `give_up` is given, it is asked while waiting, and ends it when it returns true.

    The lock is the kernel's: the file that a killed process leaves behind locks nobody out. Its
    folder is made where there is none.

    Raises:
        OSError: the folder cannot be made or written to, or its file system has no locks.
        InterruptedError: the wait was given up.
    """
    while True:
        make_writable(path.parent)
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the folder was deleted just now
            stack.callback(os.close, descriptor)
            _wait(descriptor, path, waiting, give_up)
            if not _is_named(descriptor, path):
                continue  # its holder deleted it
            try:
                yield
            finally:
                if _is_named(descriptor, path):
                    path.unlink(missing_ok=True)
            return


def make_writable(folder: Path) -> None:
    """Makes a folder for features where there is none.

    Raises:
        OSError: it cannot be made or written to; names it and the flag.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        raise OSError(
            f"{folder} cannot take features ({error}): choose another --cache_dir"
        ) from error


def _wait(
    descriptor: int, path: Path, waiting: str | None, give_up: Callable[[], bool] | None
) -> None:
    try:
        if _lock_at_once(descriptor):
            return
        if waiting:
            progress.note(waiting)
        if give_up is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return
        while not _lock_at_once(descriptor):
            if give_up():
                raise InterruptedError(f"asked to stop while waiting for {path}")
            time.sleep(0.2)
    except InterruptedError:
        raise
    except OSError as error:
        raise OSError(
            f"{path.parent} cannot be locked ({error.strerror}): choose another --cache_dir"
        ) from error


def _lock_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
