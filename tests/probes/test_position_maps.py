"""Position maps: those that the authors released, at any size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posjax.probes import MAPS, constant_mae, position_map

RELEASED = {
    "H": ("hor", 1 / 255),
    "V": ("ver", 1 / 255),
    "G": ("gau", 1 / 255),
    "HS": ("horstp", 4 / 255),
    "VS": ("verstp", 4 / 255),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_those_that_the_authors_released(name):
    file, tolerance = RELEASED[name]
    with Image.open(Path(__file__).parent / "data" / f"{file}.png") as image:
        released = np.asarray(image) / 255
    assert np.abs(position_map(name, 256) - released).max() <= tolerance + 1e-6


@pytest.mark.parametrize("size", [2, 7, (3, 8)])
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_float32_from_0_to_1(name, size):
    values = position_map(name, size)
    assert values.dtype == np.float32
    assert values.shape == (size if isinstance(size, tuple) else (size, size))
    assert values.min() >= 0
    assert values.max() <= 1
    if name in "HVG":
        assert values.min() == 0
        assert values.max() == 1


def test_h_grows_to_the_right_in_even_steps_and_v_downwards():
    np.testing.assert_allclose(position_map("H", (2, 5)), [[0, 0.25, 0.5, 0.75, 1]] * 2)
    np.testing.assert_allclose(position_map("V", (3, 2)), [[0, 0], [0.5, 0.5], [1, 1]])


@pytest.mark.parametrize("size", [(6, 9), (8, 8)])
def test_vertical_maps_are_the_transposed_horizontal_ones(size):
    for one, other in (("H", "V"), ("HS", "VS"), ("G", "G")):
        np.testing.assert_array_equal(position_map(one, size).T, position_map(other, size[::-1]))


def test_g_is_highest_in_the_centre_and_a_gaussian_of_half_the_side():
    values = position_map("G", (10, 20))
    assert np.unravel_index(values.argmax(), values.shape) == (5, 10)
    # Half the side from the centre is one standard deviation, the corner of the map is two of
    # them at a right angle: exp(-1/2) and exp(-1), before the rescaling to [0, 1].
    expected = (np.exp(-0.5) - np.exp(-1)) / (1 - np.exp(-1))
    np.testing.assert_allclose([values[5, 0], values[0, 10]], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "mae"), [("H", 0.251), ("V", 0.251), ("G", 0.197), ("HS", 0.318), ("VS", 0.318)]
)
def test_the_best_constant_scores_what_the_tables_say(name, mae):
    target = position_map(name, 224)
    assert round(float(constant_mae(target)), 3) == mae
    tried = [np.abs(target - c).mean() for c in np.linspace(0, 1, 1001)]
    np.testing.assert_allclose(constant_mae(target), min(tried), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("X", 8, r"'X'.*H, V, G, HS, VS"),
        ("h", 8, "'h'"),
        ("H", 1, "1x1"),
        ("G", (8, 1), "8x1"),
        ("V", 0, "0x0"),
    ],
)
def test_unknown_maps_and_sizes_are_refused(name, size, message):
    with pytest.raises(ValueError, match=message):
        position_map(name, size)
