"""Datasets: the images of training in their order, from memory and from disk alike."""

import dataclasses

import numpy as np
import pytest
from colours import write_images

from posjax.images import open_labelled, read_pixels
from posjax.training.dataset import Dataset, order


@pytest.fixture
def dataset(tmp_path):
    labelled = open_labelled(str(write_images(tmp_path / "images", 10)), size=9)
    return Dataset(labelled.source, labelled.labels)


def test_memory_and_disk_give_the_same_images_and_labels(dataset):
    from_disk = dataclasses.replace(dataset, memory=0)
    assert dataset.pixels.dtype == np.uint8
    assert from_disk.pixels is None
    rows = np.array([3, 17, 0, 5, 19, 2, 11])
    expected = np.stack([read_pixels(dataset.source, int(row)) for row in rows])
    for one in (dataset, from_disk):
        batches = list(one.batches(rows, 3))
        assert [len(labels) for _, labels in batches] == [3, 3, 1]
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, dataset.targets[rows])


def test_every_epoch_is_another_shuffle_in_whole_batches():
    epochs = [order(10, 4, epoch, 0) for epoch in range(50)]
    for rows in epochs:
        assert len(set(rows.tolist())) == len(rows) == 8
    assert any(not np.array_equal(epochs[0], rows) for rows in epochs[1:])
    np.testing.assert_array_equal(order(10, 4, 3, 0), epochs[3])
    assert not np.array_equal(order(10, 4, 3, 1), epochs[3])
    # What one epoch leaves out is not left out by all.
    assert set(np.concatenate(epochs).tolist()) == set(range(10))


def test_a_broken_image_is_named(dataset, tmp_path):
    path = tmp_path / "images" / "red" / "002.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"red/002\.png: truncated"):
        list(dataset.batches(np.arange(3), 3))
