"""Dead leaves: deterministic, exact against a slow painter, natural spectrum, no borders."""

import numpy as np
import pytest

from posjax.images.dead_leaves import (
    LARGEST_RADIUS,
    SMALLEST_RADIUS,
    dead_leaves,
    draw_leaves,
)


def _stack(count: int, size: int) -> np.ndarray:
    return np.stack([dead_leaves(size, np.random.default_rng(index)) for index in range(count)])


def _one_leaf_at_a_time(size: int, rng: np.random.Generator) -> np.ndarray:
    image, bare, layer = np.zeros((size, size, 3), np.float32), np.ones((size, size), bool), 4096
    y, x = np.mgrid[:size, :size] + 0.5
    while bare.any():
        radii, centres, colours = draw_leaves(layer, size, rng)
        for radius, centre, colour in zip(radii, centres, colours, strict=True):
            over = bare & ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2)
            image[over] = colour
            bare &= ~over
            if not bare.any():
                break
        layer *= 2
    return image


@pytest.mark.parametrize("size", [1, 7, 20])
def test_images_equal_painting_one_leaf_at_a_time(size):
    expected = _one_leaf_at_a_time(size, np.random.default_rng(3))
    image = dead_leaves(size, np.random.default_rng(3))
    np.testing.assert_array_equal(image, expected, strict=True)


def test_centres_fill_the_frame_enlarged_by_the_largest_radius():
    _, centres, _ = draw_leaves(100_000, 100, np.random.default_rng(0))
    margin = 100 * LARGEST_RADIUS
    expected = np.linspace(-margin, 100 + margin, 11)
    for quantiles in np.quantile(centres, np.linspace(0, 1, 11), axis=0).T:
        np.testing.assert_allclose(quantiles, expected, atol=1.5)


def test_radii_follow_the_power_law():
    radii, _, _ = draw_leaves(100_000, 100, np.random.default_rng(0))
    smallest, largest = 100 * SMALLEST_RADIUS, 100 * LARGEST_RADIUS
    assert radii.min() >= smallest
    assert radii.max() <= largest
    # P(r > t) = (t^-2 - largest^-2) / (smallest^-2 - largest^-2).
    for threshold in (0.7, 1.0, 2.0):
        expected = (threshold**-2 - largest**-2) / (smallest**-2 - largest**-2)
        assert (radii > threshold).mean() == pytest.approx(expected, abs=0.006)


def test_power_falls_as_frequency_squared():
    size, window = 128, np.hanning(128)
    images = _stack(30, size).mean(axis=-1)
    images = (images - images.mean(axis=(1, 2), keepdims=True)) * np.outer(window, window)
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=0).ravel()
    frequency = np.fft.fftfreq(size, 1 / size)
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(int).ravel()
    radial = np.bincount(radius, power) / np.bincount(radius)
    cycles = np.arange(4, size // 3)
    exponent, _ = np.polyfit(np.log(cycles), np.log(radial[cycles]), 1)
    assert -2.6 < exponent < -1.6


def test_no_position_in_the_frame_is_special():
    images = _stack(300, 16)
    deviation = np.sqrt(1 / 12)
    # Over 768 values a fair draw stays below 4.5 standard errors but once in 200 runs.
    assert np.abs(images.mean(axis=0) - 0.5).max() < 4.5 * deviation / np.sqrt(300)
    assert np.std(images, axis=0).mean() == pytest.approx(deviation, rel=0.02)
    # Neighbours agree equally often at the border and inside: leaves are as large in both.
    same = (images[:, :, 1:] == images[:, :, :-1]).all(axis=-1).mean(axis=0)
    border = same[:, [0, -1]].mean()
    assert border == pytest.approx(same[:, 5:-5].mean(), abs=0.03)
    assert same[[0, -1]].mean() == pytest.approx(same[5:-5].mean(), abs=0.03)
