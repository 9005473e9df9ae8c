"""Locks between processes. They end with the process that holds them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from posjax.runtime import progress

POLL_SECONDS = 0.2


@contextlib.contextmanager
def locked(path: Path, waiting: str, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Holds the lock file `path`, which one process at a time can hold.

    Prints `waiting` where another process holds it, and waits until `give_up` returns true. Makes
    the folder of the file.

    Raises:
        OSError: the folder cannot be made or written to, or its file system has no locks.
        InterruptedError: `give_up` returned true.
    """
    lock = filelock.FileLock(path)
    if not _acquired(lock, path):
        progress.note(waiting)
        while not _acquired(lock, path):
            if give_up():
                raise InterruptedError(f"asked to stop while waiting for {path}")
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: filelock.BaseFileLock, path: Path) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=POLL_SECONDS)
    except filelock.Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        raise OSError(f"{path.parent} cannot be locked: {error}") from error
    return True
