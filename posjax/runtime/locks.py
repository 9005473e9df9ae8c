"""Locks between processes. They end with the process that holds them."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from posjax.runtime import progress

POLL_SECONDS = 0.2


@contextlib.contextmanager
def locked(path: Path, waiting: str, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Holds the lock file `path`, which one process at a time can hold.

    Prints `waiting` where another process holds it, and waits until `give_up` returns true. Makes
    the folder of the file. Where its file system has no locks, the file itself stands for one,
    which is said. That of a killed process is taken over on the same machine alone.

    Raises:
        OSError: the folder cannot be made or written to.
        InterruptedError: `give_up` returned true.
    """
    lock = _lock(path)
    if not _acquired(lock, path):
        progress.note(waiting)
        while not _acquired(lock, path):
            if give_up():
                raise InterruptedError(f"asked to stop while waiting for {path}")
    try:
        yield
    finally:
        lock.release()


def _lock(path: Path) -> filelock.BaseFileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _has_locks(path.parent):
            return filelock.FileLock(path)
    except OSError as error:
        raise OSError(f"{path.parent} cannot be locked: {error}") from error
    progress.note(
        f"the file system of {path.parent} has no locks: the file {path.name} stands for one. "
        "Where a run on another machine was killed and none is at work, delete it"
    )
    return filelock.SoftFileLock(path)


def _has_locks(folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return True  # another kind, which the library knows
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _acquired(lock: filelock.BaseFileLock, path: Path) -> bool:
    try:
        lock.acquire(timeout=POLL_SECONDS)
    except filelock.Timeout:
        return False
    except OSError as error:
        raise OSError(f"{path.parent} cannot be locked: {error}") from error
    return True
