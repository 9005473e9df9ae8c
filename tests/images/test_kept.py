"""Kept images: made once, in memory or in a file, the same as those that are not kept."""

import errno
import gc
import os
import time
from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest

from posjax.images import Kept, Rolled, Source, batches, open_source, read_pixels, select


class Counting:
    """Noise that counts how often each image is made."""

    def __init__(self, count=9, size=6):
        self.source = open_source("noise", size=size, limit=count)
        self.name, self.keys, self.skipped = "noise", self.source.keys, (("a.txt", "no image"),)
        self.made = Counter()
        self.broken = set()

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.made[index] += 1
        time.sleep(0.002)
        if index in self.broken:
            raise ValueError(f"{self.keys[index]}: truncated")
        return self.source[index]

    def digest(self):
        return self.source.digest()


@pytest.fixture(params=["memory", "file"])
def folder(request, tmp_path):
    return tmp_path / "deep" / "down" if request.param == "file" else None


def test_every_image_is_made_once_and_is_the_same(folder):
    source = Counting()
    kept = Kept(source, 6, folder)
    assert isinstance(kept, Source)
    list(batches(select(kept, [4, 7]), 2))
    assert source.made == Counter([4, 7])
    for view in (kept, Rolled(kept, 3), Rolled(select(kept, [1, 7]), 3)):
        list(batches(view, 4))
    for index in range(-9, 9):
        np.testing.assert_array_equal(kept[index], source.source[index])
    np.testing.assert_array_equal(list(Rolled(kept, 3)), list(Rolled(source.source, 3)))
    assert source.made == Counter(range(9))


def test_threads_that_read_one_image_at_once_make_it_once(folder):
    source = Counting()
    kept = Kept(source, 6, folder)
    with ThreadPool(8) as pool:
        read = pool.map(lambda _: [kept.pixels(index) for index in range(9)], range(8), 1)
    assert source.made == Counter(range(9))
    expected = [read_pixels(source.source, index) for index in range(9)]
    np.testing.assert_array_equal(read, [expected] * 8)


def test_a_broken_image_raises_every_time_until_it_is_whole(folder):
    source = Counting()
    source.broken = {5}
    kept = Kept(source, 6, folder)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^noise/5: truncated"):
            list(batches(kept, 9))
    source.broken = set()
    np.testing.assert_array_equal(kept[5], source.source[5])
    assert (source.made[5], source.made[0]) == (3, 1)


def test_name_keys_length_and_digest_are_those_of_the_source():
    source = Counting()
    kept = Kept(source, 6)
    assert (kept.name, kept.keys, kept.skipped) == (source.name, source.keys, source.skipped)
    assert (len(kept), kept.digest()) == (9, source.digest())
    for index in (-10, 9):
        with pytest.raises(IndexError):
            kept.pixels(index)


def test_kept_images_are_read_only(folder):
    kept = Kept(Counting(), 6, folder)
    with pytest.raises(ValueError, match="read-only"):
        kept.pixels(2)[0, 0, 0] = 1
    kept[2][:] = 0
    assert kept[2].max() > 0


def test_images_of_another_size_are_refused(folder):
    with pytest.raises(ValueError, match=r"^noise/0: expected \(5, 5, 3\), not \(6, 6, 3\)"):
        Kept(Counting(), 5, folder).pixels(0)


def open_files(folder):
    """How many files of a folder this process has open."""
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.startswith(str(folder)) for link in links)


def test_the_file_shows_no_name_and_is_closed_with_its_images(tmp_path):
    kept = Kept(Counting(), 6, tmp_path)
    kept.pixels(3)
    assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == 1
    del kept
    gc.collect()
    assert open_files(tmp_path) == 0


def test_a_full_disk_is_refused_before_images_are_made(tmp_path):
    class Many(Counting):
        def __len__(self):
            return 1 << 40

    with pytest.raises(OSError, match=r"no room for images in .* bytes needed, [\d,]+ free"):
        Kept(Many(), 1000, tmp_path)


@pytest.mark.parametrize("system", ["macOS", "a network file system"])
def test_a_system_that_sets_no_room_aside_keeps_images_in_a_file(tmp_path, monkeypatch, system):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if system == "macOS":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    source = Counting()
    np.testing.assert_array_equal(list(Kept(source, 6, tmp_path)), list(source.source))
    test_a_full_disk_is_refused_before_images_are_made(tmp_path)
