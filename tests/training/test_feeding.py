"""Feeds: the images of training in their order, from memory and from disk alike."""

import numpy as np
import pytest
from colours import write_images

from posjax.images import open_labelled, read_pixels
from posjax.training.feeding import open_feed, order


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return open_labelled(str(write_images(tmp_path_factory.mktemp("images"), 10)), size=9)


def test_memory_and_disk_give_the_same_images_and_labels(labelled):
    examples = (labelled.source, labelled.labels)
    held, read = open_feed(*examples), open_feed(*examples, held_bytes=0)
    assert held.pixels.dtype == np.uint8
    assert read.pixels is None
    rows = np.array([3, 17, 0, 5, 19, 2, 11])
    found = [list(feed.batches(rows, 3)) for feed in (held, read)]
    assert [len(labels) for _, labels in found[0]] == [3, 3, 1]
    for (memory, labels), (disk, same) in zip(*found, strict=True):
        np.testing.assert_array_equal(memory, disk)
        np.testing.assert_array_equal(labels, same)
    every = np.concatenate([labels for _, labels in found[0]])
    np.testing.assert_array_equal(every, labelled.labels[rows])
    direct = np.stack([read_pixels(labelled.source, int(row)) for row in rows])
    np.testing.assert_array_equal(np.concatenate([images for images, _ in found[1]]), direct)


def test_an_epoch_is_a_shuffle_of_its_own_in_whole_batches():
    epochs = [order(10, 4, epoch, 0) for epoch in range(50)]
    for rows in epochs:
        assert len(set(rows.tolist())) == len(rows) == 8
    assert any(not np.array_equal(epochs[0], rows) for rows in epochs[1:])
    np.testing.assert_array_equal(order(10, 4, 3, 0), epochs[3])
    assert not np.array_equal(order(10, 4, 3, 1), epochs[3])
    # What one epoch leaves out is not left out by all.
    assert set(np.concatenate(epochs).tolist()) == set(range(10))


def test_a_broken_image_is_named(tmp_path):
    folder = write_images(tmp_path / "images", 4)
    path = folder / "red" / "002.png"
    path.write_bytes(path.read_bytes()[:-30])
    labelled = open_labelled(str(folder), size=9)
    with pytest.raises(ValueError, match=r"red/002\.png: truncated"):
        open_feed(labelled.source, labelled.labels)
