"""Sources of `tfds:` specs, on small real datasets, written and read without TensorFlow."""

import shutil
import sys

import numpy as np
import pytest

from posjax.images import Source, batches, open_source

pytestmark = pytest.mark.usefixtures("data_dir")


def test_every_image_of_a_split_is_read():
    source = open_source("tfds:posjax_levels", size=4)
    assert isinstance(source, Source)
    assert source.keys == tuple(f"posjax_levels/1.0.0/train/{index}" for index in range(10))
    levels = np.concatenate(list(batches(source, 4)))
    assert levels.shape == (10, 4, 4, 3)
    np.testing.assert_array_equal(sorted(levels[:, 0, 0, 0]), range(0, 200, 20))
    assert len(open_source("tfds:posjax_levels:test", size=4)) == 3
    assert len(open_source("tfds:posjax_levels:train[:40%]", size=4)) == 4
    assert "tensorflow" not in sys.modules


def test_a_limit_samples_and_the_digest_follows():
    source = open_source("tfds:posjax_levels", size=4)
    few = open_source("tfds:posjax_levels", size=4, limit=3, seed=1)
    assert len(few) == 3
    for key, image in zip(few.keys, few, strict=True):
        np.testing.assert_array_equal(image, source[source.keys.index(key)])
    opened = [source, few, open_source("tfds:posjax_levels:test", size=4)]
    opened.append(open_source("tfds:posjax_levels", size=5))
    assert len({other.digest() for other in opened}) == 4
    assert open_source("tfds:posjax_levels:train", size=4).digest() == source.digest()
    with pytest.raises(ValueError, match="has 10 images, fewer than 11"):
        open_source("tfds:posjax_levels", size=4, limit=11)


def test_a_broken_image_is_named_by_its_key():
    source = open_source("tfds:posjax_levels:broken", size=4)
    with pytest.raises(ValueError, match=r"posjax_levels/1\.0\.0/broken/0: .*PNG cut"):
        source[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:", "expected tfds:NAME"),
        ("tfds:posjax_levels:1.0.0", "a version cannot be chosen"),
        ("tfds:posjax_nothing", r"(?s)posjax_nothing.*TFDS_DATA_DIR"),
        ("tfds:posjax_levels:nope", r"Unknown split 'nope'.*'broken'"),
        ("tfds:posjax_numbers", "no feature image.*label"),
        ("tfds:posjax_offline", r"(?s)no route to host.*TFDS_DATA_DIR.*pip install posjax\[tf\]"),
    ],
)
def test_datasets_that_cannot_be_read_are_refused_by_their_spec(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        open_source(spec, size=4)
    assert str(error.value).startswith(spec)


@pytest.fixture
def edit(data_dir, tmp_path, monkeypatch):
    """Opens a copy of the dataset in which a text of the recorded facts is another."""

    def edit(old, new):
        open_source("tfds:posjax_levels", size=4)
        target = shutil.copytree(data_dir / "posjax_levels", tmp_path / "posjax_levels") / "1.0.0"
        for path in target.glob("*.array_record*"):
            path.rename(target / path.name.replace(old, new))
        info = target / "dataset_info.json"
        assert old in info.read_text()
        info.write_text(info.read_text().replace(old, new))
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        return open_source("tfds:posjax_levels", size=4)

    return edit


def test_the_digest_sees_other_recorded_sizes(edit):
    first = open_source("tfds:posjax_levels", size=4)
    other = edit('"numBytes": "', '"numBytes": "1')
    assert other.keys == first.keys
    assert other.digest() != first.digest()


def test_another_file_format_is_refused(edit):
    with pytest.raises(ValueError, match=r"TFRECORD(.|\n)*in the array_record format"):
        edit("array_record", "tfrecord")
