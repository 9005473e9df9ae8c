"""Selections: a source of some of the images, which no other selection is taken for."""

import numpy as np
import pytest

from posjax.images import Source, batches, open_source, read_pixels, select


@pytest.fixture
def source():
    return open_source("noise", size=4, limit=7)


def test_selected_images_keep_their_order(source):
    chosen = select(source, range(1, 7, 3))
    assert isinstance(chosen, Source)
    assert (chosen.name, chosen.skipped, len(chosen)) == ("noise", (), 2)
    assert chosen.keys == ("noise/1", "noise/4")
    expected = [read_pixels(source, index) for index in (1, 4)]
    np.testing.assert_array_equal(next(batches(chosen, 2)), expected)
    np.testing.assert_array_equal(chosen[-1], source[4])
    with pytest.raises(IndexError):
        chosen[2]


def test_shares_of_a_source_differ_in_their_digest(source):
    shares = [select(source, range(i, 7, 3)) for i in range(3)]
    other = open_source("noise", size=4, limit=7, seed=1)
    every = [source, *shares, select(source, range(0, 7, 2)), select(other, range(0, 7, 3))]
    assert len({chosen.digest() for chosen in every}) == 6
    assert select(source, range(0, 7, 3)).digest() == shares[0].digest()


def test_all_images_are_the_source_itself(source):
    assert select(source, range(7)) is source


def test_indices_out_of_range_are_refused(source):
    with pytest.raises(IndexError, match="the 7 images of noise"):
        select(source, range(6, 8))
    assert len(select(source, range(9, 7))) == 0
