"""A request to stop: what a scheduler sends before it takes a machine away."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM ends nothing; the function tells whether it has come.

    Only the main thread of a process may use it (`signal.signal` raises ValueError elsewhere).
    """
    requested = False

    def ask(*_: object) -> None:
        nonlocal requested
        requested = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield lambda: requested
    finally:
        signal.signal(signal.SIGTERM, before)
