"""Control tasks: as hard to draw as position maps, and no position in them."""

import numpy as np
import pytest
import scipy.fft

from posjax.probes import MAPS, position_map
from posjax.probes.controls import (
    IMAGE_SHUFFLED,
    SHUFFLED,
    SMOOTH,
    TESTING,
    TRAINING,
    Task,
    image_permutation,
    task_map,
)

SIZE = (24, 28)


@pytest.mark.parametrize("name", MAPS)
def test_without_a_control_it_is_the_position_map(name):
    np.testing.assert_array_equal(task_map(Task(name), SIZE), position_map(name, SIZE))
    before = task_map(Task(name, IMAGE_SHUFFLED), SIZE)
    np.testing.assert_array_equal(before, position_map(name, SIZE))


@pytest.mark.parametrize("name", MAPS)
def test_a_shuffled_map_has_the_pixels_of_the_map_elsewhere(name):
    values, shuffled = position_map(name, SIZE), task_map(Task(name, SHUFFLED), SIZE)
    np.testing.assert_array_equal(np.sort(shuffled, axis=None), np.sort(values, axis=None))
    assert abs(np.corrcoef(shuffled.ravel(), values.ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(shuffled, task_map(Task(name, SHUFFLED), SIZE))


@pytest.mark.parametrize("name", MAPS)
def test_a_smooth_map_has_the_spectrum_of_the_map(name):
    smooth = task_map(Task(name, SMOOTH), SIZE).astype(np.float64)
    assert (smooth.min(), smooth.max()) == (0, 1)
    spectrum, found = (
        np.abs(scipy.fft.dctn(values, norm="ortho"))
        for values in (position_map(name, SIZE).astype(np.float64), smooth)
    )
    # Its mean and its scale are those of [0, 1].
    spectrum[0, 0] = found[0, 0] = 0
    scale = found.max() / spectrum.max()
    np.testing.assert_allclose(found, scale * spectrum, atol=1e-4 * found.max())


def test_a_smooth_map_varies_along_the_axes_of_the_map():
    assert np.ptp(task_map(Task("H", SMOOTH), SIZE), axis=0).max() < 1e-6
    assert np.ptp(task_map(Task("V", SMOOTH), SIZE), axis=1).max() < 1e-6


def test_every_image_has_an_order_of_its_own():
    orders = [image_permutation(50, s, i) for s in (TRAINING, TESTING) for i in range(20)]
    assert all(np.array_equal(np.sort(order), np.arange(50)) for order in orders)
    assert len(np.unique(orders, axis=0)) == 40
    np.testing.assert_array_equal(orders[3], image_permutation(50, TRAINING, 3))


def test_an_unknown_control_is_refused():
    with pytest.raises(ValueError, match=r"'mirrored'.*shuffled_map, smooth_map, image_shuffled"):
        task_map(Task("H", "mirrored"), 8)
