"""Sources of `tfds:` specs, on small real datasets, written and read without TensorFlow."""

import io
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from posjax.images import Source, batches, open_source


def _png(level: int, width: int = 8) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, width, 3), level, np.uint8)).save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue())


class PosjaxLevels(tfds.core.GeneratorBasedBuilder):
    """Flat images of known levels; one file of the split `broken` is cut."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(), "level": tfds.features.Scalar(np.int64)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(range(0, 200, 20)),
            "test": self._generate_examples([7, 8, 9]),
            "broken": self._generate_examples([0]),
        }

    def _generate_examples(self, levels):
        for level in levels:
            image = _png(level) if level or len(levels) > 1 else io.BytesIO(b"\x89PNG cut")
            yield level, {"image": image, "level": level}


class PosjaxNumbers(tfds.core.GeneratorBasedBuilder):
    """A dataset without images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"level": tfds.features.Scalar(np.int64)})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"level": 0}


class PosjaxOffline(PosjaxNumbers):
    """A dataset whose download fails."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("no route to host")


class PosjaxNeedsTf(PosjaxNumbers):
    """A dataset that TensorFlow alone can prepare."""

    def _split_generators(self, dl_manager):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    for builder in (PosjaxLevels, PosjaxNumbers):
        builder(data_dir=path, file_format="array_record").download_and_prepare()
    return path


@pytest.fixture(autouse=True)
def _use(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))


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


def test_the_digest_sees_other_recorded_sizes(data_dir, tmp_path, monkeypatch):
    first = open_source("tfds:posjax_levels", size=4).digest()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(PosjaxLevels, "_generate_examples", _wider)
    PosjaxLevels(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    assert open_source("tfds:posjax_levels", size=4).digest() != first


def _wider(self, levels):
    for level in levels:
        yield level, {"image": _png(level, width=100), "level": level}


def test_a_broken_image_is_named_by_its_key():
    source = open_source("tfds:posjax_levels:broken", size=4)
    with pytest.raises(ValueError, match=r"posjax_levels/1\.0\.0/broken/0: .*PNG cut"):
        source[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:posjax_nothing", "no dataset 'posjax_nothing'.*TFDS_DATA_DIR"),
        ("tfds:posjax_levels:nope", r"Unknown split 'nope'.*'broken'"),
        ("tfds:posjax_levels:1.0.0", "version"),
        ("tfds:posjax_numbers", "no feature image.*level"),
        ("tfds:posjax_offline", r"no route to host(.|\n)*TFDS_DATA_DIR"),
        ("tfds:posjax_needs_tf", r"pip install posjax\[tf\]"),
    ],
)
def test_datasets_that_cannot_be_read(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        open_source(spec, size=4)
    assert str(error.value).startswith(spec)


def test_another_file_format_is_refused(data_dir, tmp_path, monkeypatch):
    folder = tmp_path / "posjax_levels" / "1.0.0"
    folder.mkdir(parents=True)
    for path in (data_dir / "posjax_levels" / "1.0.0").iterdir():
        content = path.read_bytes()
        if path.name == "dataset_info.json":
            content = content.replace(b'"array_record"', b'"tfrecord"')
        (folder / path.name.replace("array_record", "tfrecord")).write_bytes(content)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="array_record"):
        open_source("tfds:posjax_levels", size=4)
