"""Control tasks: as hard to draw as position maps, and no position in them."""

import numpy as np
import pytest
import scipy.fft
import scipy.stats

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
@pytest.mark.parametrize("size", [SIZE, (96, 96)], ids=str)
def test_a_smooth_map_has_nothing_in_common_with_any_position_map(name, size):
    smooth = task_map(Task(name, SMOOTH), size).astype(np.float64)
    assert (smooth.min(), smooth.max()) == (0, 1)
    for other in MAPS:
        target = position_map(other, size).ravel()
        assert abs(np.corrcoef(smooth.ravel(), target)[0, 1]) < 1e-5
        assert abs(scipy.stats.spearmanr(smooth.ravel(), target)[0]) < 0.1


@pytest.mark.parametrize("name", MAPS)
def test_a_smooth_map_is_as_smooth_as_the_map(name):
    maps = position_map(name, SIZE), task_map(Task(name, SMOOTH), SIZE)
    distance = np.hypot(*np.indices(SIZE))
    mean = []
    for values in maps:
        power = scipy.fft.dctn(values.astype(np.float64), norm="ortho") ** 2
        power[0, 0] = 0
        mean.append(np.sqrt((power * distance**2).sum() / power.sum()))
    # Without what the map has in common with gradients and Gaussians, which are smoothest.
    assert mean[1] < 2 * mean[0]


def test_every_image_has_an_order_of_its_own():
    orders = [image_permutation(50, s, i) for s in (TRAINING, TESTING) for i in range(20)]
    assert all(np.array_equal(np.sort(order), np.arange(50)) for order in orders)
    assert len(np.unique(orders, axis=0)) == 40
    np.testing.assert_array_equal(orders[3], image_permutation(50, TRAINING, 3))
    np.testing.assert_array_equal(orders[3], image_permutation(50, TRAINING, 3 + 1024))


def test_an_unknown_control_is_refused():
    with pytest.raises(ValueError, match=r"'mirrored'.*shuffled_map, smooth_map, image_shuffled"):
        task_map(Task("H", "mirrored"), 8)
