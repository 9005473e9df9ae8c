"""SIGTERM becomes a request to stop, and only within the block."""

import os
import signal

from posjax.runtime.stopping import stop_requests


def test_sigterm_is_a_request_within_the_block_alone():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
    assert signal.getsignal(signal.SIGTERM) is before
    with stop_requests() as asked:
        assert not asked()
