"""Crops: what follows the content moves by nothing, and what follows the frame by all of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.training.saliency.shift import DIRECTIONS, common, follow

STEP, SIZE = 4, 24


def spot(row, column):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = (rows - row) ** 2 + (columns - column) ** 2
    return jnp.asarray(np.exp(-distance / 4)[None].astype(np.float32))


def followed(still, moved, direction):
    """Which part of the way the prediction went, by figure."""
    down, right = direction
    pair = (common(still, down, right, STEP), common(moved, -down, -right, STEP))
    assert pair[0].shape == pair[1].shape
    return {name: float(way[0]) / STEP for name, way in follow(*pair, direction).items()}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_prediction_of_the_content_stays_and_one_of_the_frame_goes_with_it(direction):
    middle = SIZE // 2
    still = spot(middle, middle)
    # In the crop that moved down, the same content lies further up.
    content = spot(*np.subtract(middle, np.multiply(direction, STEP)))
    for name, value in followed(still, content, direction).items():
        assert value == pytest.approx(0, abs=1e-4), name
    for name, value in followed(still, still, direction).items():
        assert value == pytest.approx(1, abs=0.02), name


def test_what_both_crops_show_cuts_the_mass_of_a_broad_prediction_off():
    broad = 0.2 + 0.8 * spot(12, 12) ** 0.1
    way = followed(broad, broad, (1, 0))
    assert way["peak"] == pytest.approx(1)
    assert 0.05 < way["mass"] < 0.9


@pytest.mark.parametrize(
    "nothing",
    [0.01 * spot(3, 20), 0.49 * spot(3, 20), jnp.full((1, SIZE, SIZE), 0.9)],
    ids=["noise", "below one half", "flat"],
)
def test_a_prediction_that_holds_nothing_for_salient_has_no_place(nothing):
    disc = spot(12, 12)
    for still, moved in ((nothing, disc), (disc, nothing), (nothing, nothing)):
        assert np.isnan(list(followed(still, moved, (0, 1)).values())).all()
