"""Rolled images: the same pixels, elsewhere, and never taken for the images themselves."""

import numpy as np

from posjax.images import Rolled, Source, open_source

SOURCE = open_source("noise", size=12, limit=20, seed=0)


def shift_of(rolled, image):
    shifts = [
        (dy, dx)
        for dy in range(12)
        for dx in range(12)
        if np.array_equal(np.roll(image, (dy, dx), axis=(0, 1)), rolled)
    ]
    assert len(shifts) == 1
    return shifts[0]


def test_every_image_is_rolled_by_another_shift():
    rolled = Rolled(SOURCE, seed=0)
    assert isinstance(rolled, Source)
    assert len(rolled) == 20
    shifts = [shift_of(rolled[i], SOURCE[i]) for i in range(20)]
    assert len(set(shifts)) > 12
    assert {dy for dy, _ in shifts} != {dx for _, dx in shifts}
    np.testing.assert_array_equal(rolled[-1], rolled[19])
    np.testing.assert_array_equal(rolled[3], Rolled(SOURCE, seed=0)[3])
    assert not np.array_equal(rolled[3], Rolled(SOURCE, seed=1)[3])


def test_its_digest_is_neither_that_of_the_images_nor_that_of_other_rolls():
    others = SOURCE, open_source("noise", size=12, limit=19, seed=0)
    digests = {source.digest() for source in others}
    digests |= {Rolled(source, seed).digest() for source in others for seed in (0, 1)}
    assert len(digests) == 6
    assert Rolled(SOURCE, 0).digest() == Rolled(SOURCE, 0).digest()


def test_names_are_those_of_the_images():
    rolled = Rolled(SOURCE, seed=0)
    assert (rolled.name, rolled.keys, rolled.skipped) == (SOURCE.name, SOURCE.keys, ())
