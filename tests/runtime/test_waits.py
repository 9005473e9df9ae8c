"""Waits: images and devices are told apart, and nothing is lost on the way."""

import types

import pytest

from posjax.runtime import Waits, waits


@pytest.fixture
def clock(monkeypatch):
    """Time that passes by `clock[0] += seconds` alone."""
    now = [0.0]
    monkeypatch.setattr(waits, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_time_is_counted_for_what_it_was_spent_on(clock):
    def images():
        for number in range(3):
            clock[0] += 2.0
            yield number

    spent, read = Waits(), []
    with spent.timed("encoding"):
        for number in spent.each(images()):
            read.append(number)
            with spent.timed("devices"):
                clock[0] += 5.25
            clock[0] += 1
    assert read == [0, 1, 2]
    assert spent == Waits(encoding=24.75, images=6.0, devices=15.75)
    assert str(spent) == (
        "encoding: 24.8 s. Of these, devices waited for images for up to 6.0 s, and this host "
        "waited for devices for 15.8 s"
    )


def test_an_error_of_an_image_arrives_and_its_time_counts(clock):
    def broken():
        yield 1
        clock[0] += 7
        raise ValueError("broken")

    spent = Waits()
    read = spent.each(broken())
    assert next(read) == 1
    with pytest.raises(ValueError, match="broken"):
        next(read)
    assert spent.images == 7
