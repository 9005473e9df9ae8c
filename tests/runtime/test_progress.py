"""Progress: rate and time left on a terminal, nothing elsewhere."""

import io
import re
import sys

import pytest
import tqdm.std

from posjax.runtime import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told to: `clock[0] += seconds`."""
    now = [1000.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    return now


def encode(clock, steps):
    """Batches of 10 images; the first takes 60 seconds, for it compiles, the others 2 each."""
    with progress.bar(100, "encode zeros", "images") as bar:
        for step in range(steps):
            clock[0] += 2 if step else 60
            progress.advance(bar, 10)
        bar.refresh()
        return bar


def test_silent_where_standard_error_is_no_terminal(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    encode(clock, 5)
    assert sys.stderr.getvalue() == ""


def test_a_log_is_told_how_far_it_is_and_a_terminal_is_not(monkeypatch):
    for stream, told in ((io.StringIO(), "epoch 1 of 2\n"), (Terminal(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.bar(100, "encode zeros", "images") as bar:
            before = stream.getvalue()
            progress.log(bar, "epoch 1 of 2")
            assert stream.getvalue() == before + told


def test_a_terminal_shows_what_is_done_how_fast_and_how_long_it_will_take(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    encode(clock, 6)
    last = [line for line in sys.stderr.getvalue().split("\r") if line.strip()][-1]
    assert "encode zeros" in last
    assert "60/100" in last
    assert "5.00 images/s" in last
    assert "00:08" in last  # 40 images to go


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_the_rate_never_counts_the_first_batch_nor_its_compilation(monkeypatch, clock, steps):
    monkeypatch.setattr(sys, "stderr", Terminal())
    encode(clock, steps)
    rates = re.findall(r"([\d.]+) images/s", sys.stderr.getvalue())
    assert rates
    assert {float(rate) for rate in rates} == {5.0}


def test_figures_stand_behind_the_rate(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.bar(20, "train 3", "images") as bar:
        for _ in range(2):
            clock[0] += 1
            progress.advance(bar, 10, loss="0.0712")
        bar.refresh()
    assert re.search(r"images/s, loss=0\.0712", sys.stderr.getvalue())
