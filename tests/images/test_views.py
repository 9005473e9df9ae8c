"""Views: some of the images, or all of them rolled, and never taken for others."""

import numpy as np
import pytest

from posjax.images import Rolled, Source, batches, open_source, read_pixels, select

SOURCE = open_source("noise", size=12, limit=20, seed=0)


def shift_of(rolled, image):
    (shift,) = [
        (dy, dx)
        for dy in range(12)
        for dx in range(12)
        if np.array_equal(np.roll(image, (dy, dx), axis=(0, 1)), rolled)
    ]
    return shift


def test_every_image_is_rolled_by_another_shift():
    rolled = Rolled(SOURCE, seed=0)
    assert isinstance(rolled, Source)
    assert (rolled.name, rolled.keys, rolled.skipped) == (SOURCE.name, SOURCE.keys, ())
    shifts = [shift_of(rolled.pixels(i), SOURCE.pixels(i)) for i in range(len(rolled))]
    assert len(set(shifts)) > 12
    assert {dy for dy, _ in shifts} != {dx for _, dx in shifts}
    np.testing.assert_array_equal(rolled[-1], rolled[19])
    np.testing.assert_array_equal(rolled[3], Rolled(SOURCE, seed=0)[3])
    assert not np.array_equal(rolled[3], Rolled(SOURCE, seed=1)[3])


def test_selected_images_keep_their_order():
    chosen = select(SOURCE, range(1, 7, 3))
    assert isinstance(chosen, Source)
    assert (chosen.name, chosen.skipped, len(chosen)) == ("noise", (), 2)
    assert chosen.keys == ("noise/1", "noise/4")
    expected = [read_pixels(SOURCE, index) for index in (1, 4)]
    np.testing.assert_array_equal(next(batches(chosen, 2)), expected)
    np.testing.assert_array_equal(chosen[-1], SOURCE[4])
    with pytest.raises(IndexError):
        chosen[2]


def test_all_images_are_the_source_itself_and_others_are_refused():
    assert select(SOURCE, range(20)) is SOURCE
    assert len(select(SOURCE, range(9, 7))) == 0
    with pytest.raises(IndexError, match="the 20 images of noise"):
        select(SOURCE, range(19, 21))


def test_other_images_have_other_digests():
    def opened():
        sources = [SOURCE, open_source("noise", size=12, limit=19, seed=0)]
        rolled = [Rolled(source, seed) for source in sources for seed in (0, 1)]
        parts = [select(s, range(i, 19, 3)) for s in sources for i in range(3)]
        return [*sources, *rolled, *parts, select(SOURCE, range(0, 19, 2))]

    digests = [source.digest() for source in opened()]
    assert len(set(digests)) == len(digests)
    assert digests == [source.digest() for source in opened()]
