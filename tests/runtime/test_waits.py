"""Waits: images and devices are told apart, and nothing is lost on the way."""

import time

import pytest

from posjax.runtime.waits import Waits


def slow(count, seconds):
    for number in range(count):
        time.sleep(seconds)
        yield number


def test_slow_images_are_what_devices_wait_for():
    waits = Waits()
    with waits.timed("encoding"):
        assert list(waits.each(slow(3, 0.05))) == [0, 1, 2]
    assert 0.15 <= waits.images <= waits.encoding
    assert waits.devices == 0


def test_what_is_done_with_an_image_is_no_wait_for_it():
    waits = Waits()
    for _ in waits.each(range(3)):
        with waits.timed("devices"):
            time.sleep(0.05)
    assert waits.images < 0.05
    assert waits.devices >= 0.15


def test_time_adds_up_and_counts_where_the_block_fails():
    waits = Waits(devices=10.0)

    def fail():
        with waits.timed("devices"):
            time.sleep(0.02)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert waits.devices >= 10.02


def test_an_error_of_an_image_arrives():
    def broken():
        yield 1
        raise ValueError("broken")

    read = Waits().each(broken())
    assert next(read) == 1
    with pytest.raises(ValueError, match="broken"):
        next(read)


def test_they_are_told_in_a_line():
    assert str(Waits(encoding=12.34, images=8.06, devices=2.0)) == (
        "encoding: 12.3 s, in which devices waited up to 8.1 s for images, and the host 2.0 s for "
        "devices"
    )
