"""What the values of a mask mean is settled by its values, or refused."""

import numpy as np
import pytest

from posjax.images.mask_values import settle

PLACES = np.array([[0, 1, 0], [1, 1, 0]])
WHITE = PLACES * 255
SOFT = np.array([[0, 1, 40], [200, 255, 3]])
COLOUR, BLACK = np.array([10, 200, 0]), np.zeros(3, int)


def coloured(colour, ground=BLACK):
    return np.where(PLACES[..., None] == 1, colour, ground)


@pytest.mark.parametrize(
    ("pixels", "levels", "meaning"),
    [
        (PLACES, WHITE, "0 and 1"),
        (PLACES.astype(bool), WHITE, "0 and 1"),
        (WHITE, WHITE, "0 and 255"),
        (WHITE * 257, WHITE, "0 and 65535"),
        (SOFT, SOFT, "grey levels up to 255"),
        (0 * PLACES, 0 * PLACES, "empty"),
        (coloured(COLOUR), WHITE, "one colour on black"),
        (np.dstack([WHITE] * 3), WHITE, "0 and 255"),
        (np.dstack([PLACES] * 3 + [0 * PLACES + 255]), WHITE, "0 and 1"),
        (np.dstack([0 * PLACES] * 3 + [WHITE]), WHITE, "alpha channel"),
        (np.dstack([WHITE, WHITE]), WHITE, "0 and 255"),
    ],
)
def test_values_that_mean_one_thing_are_settled(pixels, levels, meaning):
    settled, how = settle(pixels, "a.png")
    assert settled.dtype == np.uint8
    np.testing.assert_array_equal(settled, levels)
    assert how == meaning


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (PLACES * 20, "values up to 20"),
        (np.array([[0, 1, 255]]), "the values 0, 1 and 255"),
        (PLACES * 300, "values up to 300; expected 0 and 1, or up to 65535"),
        (PLACES * 70000, "values up to 70000"),
        (-PLACES, "negative values, down to -1"),
        (coloured(COLOUR, COLOUR[::-1]), "a mask of several colours"),
        (np.arange(18).reshape(2, 3, 3), "a mask of several colours"),
        (np.dstack([WHITE, 255 - WHITE]), "its alpha channel differ"),
    ],
)
def test_values_that_may_mean_several_things_are_refused_by_name(pixels, words):
    with pytest.raises(ValueError, match=f"a.png: .*{words}"):
        settle(pixels, "a.png")
