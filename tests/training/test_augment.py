"""Windows: pixels of the image alone, every place as likely as any other."""

import jax
import numpy as np
import pytest

from posjax.training.augment import central, random_windows

SIDE, MARGIN = 9, 3


def windows(images, masks, margin, devices=1, key=0):
    """The windows of images that so many devices share."""

    def view(images, masks):
        return random_windows(images, masks, jax.random.key(key), margin, "devices")

    shards = [array.reshape(devices, -1, *array.shape[1:]) for array in (images, masks)]
    cut = jax.vmap(view, axis_name="devices")(*shards)
    return [np.asarray(array).reshape(-1, *array.shape[2:]) for array in cut]


def numbered(n):
    """Images in which every pixel has its place as its value."""
    places = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE, 1)
    return np.broadcast_to(places, (n, SIDE, SIDE, 1))


def test_a_window_is_a_part_of_its_image_or_of_the_mirrored_one_and_any_is_as_likely():
    n, side = 20000, SIDE - MARGIN
    images = numbered(n)
    cut, masks = windows(images, images[..., 0], MARGIN)
    np.testing.assert_array_equal(cut[..., 0], masks)
    flips = masks[:, 0, 0] > masks[:, 0, 1]
    straight = np.where(flips[:, None, None], masks[:, :, ::-1], masks)
    rows, columns = np.divmod(straight[:, 0, 0].astype(int), SIDE)
    parts = np.lib.stride_tricks.sliding_window_view(images[0, ..., 0], (side, side))
    np.testing.assert_array_equal(straight, parts[rows, columns])
    for places in (rows, columns):
        assert np.abs(np.bincount(places, minlength=MARGIN + 1) / n - 0.25).max() < 0.015
    assert abs(np.mean(flips) - 0.5) < 0.015
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.03


def test_an_image_has_the_same_window_on_any_number_of_devices_and_classes_stay():
    images = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3)).astype(np.uint8)
    classes = np.arange(8)
    (one, same), (eight, _) = (windows(images, classes, MARGIN, devices) for devices in (1, 8))
    np.testing.assert_array_equal(one, eight)
    np.testing.assert_array_equal(same, classes)


@pytest.mark.parametrize(("margin", "first", "last"), [(0, 0, 9), (3, 1, 7), (4, 2, 7)])
def test_the_central_window_is_in_the_middle(margin, first, last):
    images = numbered(2)
    np.testing.assert_array_equal(central(images, margin), images[:, first:last, first:last])
    masks = images[..., 0]
    np.testing.assert_array_equal(central(masks, margin), masks[:, first:last, first:last])
