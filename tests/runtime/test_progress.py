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
    """Time that passes by `clock[0] += seconds` alone."""
    now = [1000.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    return now


def encode(clock):
    """Six batches of 10 images; the first takes 60 seconds, for it compiles, the others 2."""
    with progress.bar(100, "encode zeros", "images") as bar:
        for step in range(6):
            clock[0] += 2 if step else 60
            progress.advance(bar, 10, loss="0.0712")
        bar.refresh()
        progress.log(bar, "epoch 1 of 2")


def test_what_is_no_terminal_gets_no_bar_but_is_told_how_far_it_is(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    encode(clock)
    assert sys.stderr.getvalue() == "epoch 1 of 2\n"


def test_a_terminal_shows_what_is_done_and_a_rate_that_leaves_out_compilation(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    encode(clock)
    shown = sys.stderr.getvalue()
    last = [line for line in shown.split("\r") if line.strip()][-1]
    assert "encode zeros" in last
    assert "60/100" in last
    assert "00:08" in last  # 40 images to go
    assert re.search(r"images/s, loss=0\.0712", last)
    rates = re.findall(r"([\d.]+) images/s", shown)
    assert len(rates) > 4
    assert {float(rate) for rate in rates} == {5.0}
    assert "epoch 1 of 2" not in shown


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_terminal_of_ascii_shows_any_text(monkeypatch, stream):
    content = io.BytesIO()
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(content, "ascii"))
    {"stdout": progress.say, "stderr": progress.note}[stream]("8 × cpu of ph\udcffotos")
    assert content.getvalue() == b"8 \\xd7 cpu of ph\\udcffotos\n"
