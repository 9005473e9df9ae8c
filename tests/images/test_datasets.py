"""Sources of `tfds:` specs, on small real datasets, written and read without TensorFlow."""

import shutil
import sys

import numpy as np
import pytest

from posjax.images import Source, batches, open_labelled, open_source

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


def test_records_that_are_no_images_are_left_out_and_listed():
    spec = "tfds:posjax_levels:test+broken"
    source = open_source(spec, size=4, skip_bad_images=True)
    assert source.keys == tuple(f"posjax_levels/1.0.0/test+broken/{i}" for i in range(3))
    assert [name for name, _ in source.skipped] == ["posjax_levels/1.0.0/test+broken/3"]
    assert {round(float(image.mean()) * 255) for image in source} == {7, 8, 9}


def flipped(data):
    """One bit of the first records is another; the index at the end is whole."""
    middle = data[:60_000].rstrip(b"\0")
    at = len(middle) * 3 // 4
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.fixture
def damage(data_dir, tmp_path, monkeypatch):
    """Changes the bytes of the file of a split in a copy of a dataset, or removes it."""

    def damage(change, name="posjax_levels", split="train"):
        open_source(f"tfds:{name}", size=4)
        shutil.copytree(data_dir / name, tmp_path / name)
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        (path,) = (tmp_path / name / "1.0.0").glob(f"*-{split}.array_record*")
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(path.read_bytes()))
        return path

    return damage


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda _: b"",
        lambda data: data[:65536],
        lambda data: data[:-1],
        lambda data: bytes(len(data)),
    ],
    ids=["missing", "empty", "half", "a byte less", "zeros"],
)
def test_a_file_of_a_dataset_that_is_missing_cut_or_blank_is_named_at_once(damage, change):
    path = damage(change)
    message = rf"^tfds:posjax_levels: {path} is missing, cut or damaged: expected 10 records, found"
    for opens in (open_source, open_labelled):
        with pytest.raises(ValueError, match=message) as error:
            opens("tfds:posjax_levels", size=4)
        assert "\n" not in str(error.value)
    assert len(open_source("tfds:posjax_levels:test", size=4)) == 3


def test_records_that_were_changed_are_named_when_they_are_read(damage):
    damage(flipped)
    source = open_source("tfds:posjax_levels", size=4)
    message = r"^posjax_levels/1\.0\.0/train/\d: cannot be read: Corrupted"
    with pytest.raises(ValueError, match=message):
        [source.pixels(i) for i in range(10)]
    with pytest.raises(ValueError, match=message):
        list(batches(source, 4))  # in threads of grain
    with pytest.raises(ValueError, match=message):
        open_labelled("tfds:posjax_levels", size=4)
    rest = open_source("tfds:posjax_levels", size=4, skip_bad_images=True)
    ((name, reason),) = rest.skipped
    assert {name, *rest.keys} == set(source.keys)
    assert reason.startswith("cannot be read: Corrupted")


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
