"""Locks between processes. They end with the process that holds them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from posjax.runtime import progress

POLL_SECONDS = 0.2


@contextlib.contextmanager
def locked(
    path: Path, waiting: str | None = None, give_up: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Holds the lock file `path`, which one process at a time can hold.

    Prints `waiting` where another process holds it, and waits until `give_up` returns true. Makes
    the folder of the file where there is none.

    Raises:
        OSError: the folder cannot be made or written to, or its file system has no locks.
        InterruptedError: `give_up` returned true.
    """
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(blocking=False)
        if not lock.is_locked and waiting:
            progress.note(waiting)
        while not lock.is_locked:
            if give_up():
                raise InterruptedError(f"asked to stop while waiting for {path}")
            time.sleep(POLL_SECONDS)
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(blocking=False)
    except InterruptedError:
        raise
    except (OSError, NotImplementedError) as error:
        raise OSError(f"{path.parent} cannot be locked: {error}") from error
    try:
        yield
    finally:
        lock.release()
