"""Random windows: pixels of the image alone, everywhere alike, and the same for each image."""

import jax
import jax.numpy as jnp
import numpy as np

from posjax.training.augment import as_floats, central, crop, draw_windows


def numbered_images(n, side):
    return np.arange(n * side * side, dtype=np.float32).reshape(n, side, side, 1) + 1


def test_a_window_is_a_part_of_its_image_or_of_the_mirrored_one():
    images = numbered_images(64, 9)
    windows = draw_windows(jax.random.key(0), 64, 3)
    found = np.asarray(crop(jnp.asarray(images), windows, 3))
    for i in range(64):
        row, column = int(windows.rows[i]), int(windows.columns[i])
        part = images[i, row : row + 6, column : column + 6]
        np.testing.assert_array_equal(found[i], part[:, ::-1] if windows.flips[i] else part)
    assert found.min() >= 1


def test_every_place_and_side_is_as_likely():
    windows = draw_windows(jax.random.key(1), 20000, 4)
    for part in (windows.rows, windows.columns):
        assert np.abs(np.bincount(part, minlength=5) / 20000 - 0.2).max() < 0.015
    assert abs(np.mean(windows.flips) - 0.5) < 0.015
    assert abs(np.corrcoef(windows.rows, windows.columns)[0, 1]) < 0.03


def test_without_a_margin_images_are_whole():
    images = jnp.asarray(numbered_images(4, 5))
    windows = draw_windows(jax.random.key(2), 4, 0)._replace(flips=jnp.zeros(4, bool))
    np.testing.assert_array_equal(crop(images, windows, 0), images)
    np.testing.assert_array_equal(central(images, 0), images)


def test_the_central_window_is_in_the_middle():
    images = jnp.asarray(numbered_images(2, 7))
    np.testing.assert_array_equal(central(images, 4), images[:, 2:5, 2:5])
    np.testing.assert_array_equal(central(images, 3), images[:, 1:5, 1:5])


def test_eight_bits_become_floats_and_floats_stay():
    np.testing.assert_array_equal(as_floats(jnp.full((1, 1, 1, 1), 255, jnp.uint8)), 1.0)
    np.testing.assert_array_equal(as_floats(jnp.full((1, 1, 1, 1), 0.5)), 0.5)
