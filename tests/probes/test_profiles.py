"""Profiles: cells are means of pixels, rings are frames of the image, SPC is scipy's in each."""

import jax
import numpy as np
import pytest
import scipy.stats

from posjax.layers import InputTooSmall
from posjax.probes import mae, position_map, profiles
from posjax.probes.profiles import cells, error_cells, ring_means, rings

ring_spc = jax.jit(profiles.ring_spc, static_argnums=2)


def predictions(size=56, n=3):
    return np.random.default_rng(0).random((n, size, size), np.float32)


def test_rings_count_the_cells_to_the_nearest_border():
    actual = rings()
    expected = [[min(y, x, 27 - y, 27 - x) for x in range(28)] for y in range(28)]
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("size", [28, 31, 224])
def test_cells_of_any_size_keep_the_mean_and_a_constant(size):
    values = predictions(size)
    np.testing.assert_allclose(cells(values).mean((1, 2)), values.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(cells(np.full((1, size, size), 0.3)), 0.3, atol=1e-6)


def test_maps_of_fewer_pixels_than_cells_are_refused():
    with pytest.raises(InputTooSmall, match=r"28 cells.*not 27"):
        cells(np.zeros((1, 27, 27)))


def test_errors_in_rings_add_up_to_the_mae():
    values, goal = predictions(), position_map("G", 56)
    of_cells = np.asarray(error_cells(values, goal))
    expected = np.abs(values - goal).reshape(3, 28, 2, 28, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(of_cells, expected, atol=1e-6)
    in_rings = ring_means(of_cells)
    np.testing.assert_allclose(in_rings[:, 0], expected[:, rings() == 0].mean(1), rtol=1e-5)
    counts = np.bincount(rings().ravel())
    np.testing.assert_allclose(in_rings @ counts / 784, mae(values, goal), rtol=1e-5)


@pytest.mark.parametrize("side", [56, 96], ids=["cells of whole pixels", "pixels are shared"])
@pytest.mark.parametrize("name", ["H", "V", "G", "HS"])
def test_spc_in_a_ring_is_scipys_over_its_cells(name, side):
    goal = position_map(name, side)
    values = predictions(side)
    values[1] = goal + 0.3 * values[1]
    values[2] = np.round(values[2] * 4) / 4  # with ties
    actual = ring_spc(values, goal)
    # Cells of the target that differ by rounding alone are ties to us, to scipy they are not.
    goal_cells = np.round(cells(goal[None])[0], 5)
    for ring in range(13):
        inside = rings() == ring
        for i, of_cells in enumerate(np.asarray(cells(values))):
            expected = scipy.stats.spearmanr(of_cells[inside], goal_cells[inside]).statistic
            # Cells of a prediction that differ by rounding alone may change places.
            np.testing.assert_allclose(actual[i, ring], expected, atol=2e-3)


def test_a_ring_that_is_constant_has_no_spc():
    values = predictions()
    values[0, :2] = values[0, -2:] = values[0, :, :2] = values[0, :, -2:] = 0.7
    undefined = np.isnan(ring_spc(values, position_map("V", 56)))
    np.testing.assert_array_equal(np.argwhere(undefined), [[0, 0]])


def test_a_ring_is_constant_that_varies_by_the_rounding_of_its_features():
    goal = position_map("V", 56)
    values = np.stack([0.5 + spread * goal for spread in (1e-3, 1e-2, 1)]).astype(np.float32)
    np.testing.assert_allclose(ring_spc(values, goal)[:, 0], 1, atol=1e-5)
    actual = np.asarray(ring_spc(values, goal, 2.0**-7))
    assert np.isnan(actual[0]).all()
    np.testing.assert_allclose(actual[1:, 0], 1, atol=1e-5)
