"""Random windows: pixels of the image alone, every place as likely as any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.training.augment import central, crop, draw_windows


def numbered_images(n, side):
    return np.arange(n * side * side, dtype=np.float32).reshape(n, side, side, 1) + 1


@pytest.mark.parametrize("margin", [0, 3])
def test_a_window_is_a_part_of_its_image_or_of_the_mirrored_one(margin):
    images = numbered_images(64, 9)
    windows = draw_windows(jax.random.key(0), 64, margin)
    crops = np.asarray(crop(jnp.asarray(images), windows, margin))
    for image, window, row, column, flip in zip(images, crops, *windows, strict=True):
        part = image[row : row + 9 - margin, column : column + 9 - margin]
        np.testing.assert_array_equal(window, part[:, ::-1] if flip else part)


def test_every_place_and_side_is_as_likely():
    windows = draw_windows(jax.random.key(1), 20000, 4)
    for part in (windows.rows, windows.columns):
        assert np.abs(np.bincount(part, minlength=5) / 20000 - 0.2).max() < 0.015
    assert abs(np.mean(windows.flips) - 0.5) < 0.015
    assert abs(np.corrcoef(windows.rows, windows.columns)[0, 1]) < 0.03


@pytest.mark.parametrize(("margin", "first", "last"), [(0, 0, 7), (3, 1, 5), (4, 2, 5)])
def test_the_central_window_is_in_the_middle(margin, first, last):
    images = jnp.asarray(numbered_images(2, 7))
    np.testing.assert_array_equal(central(images, margin), images[:, first:last, first:last])
