"""Labelled images: class folders as torchvision reads them, and datasets with a label."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from posjax.images import open_labelled


def write(path, level=9):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(path)


def test_classes_are_folders_in_the_order_of_their_names(tmp_path):
    for name in ("b/1.png", "b/deep/2.png", "a/3.png", ".hidden/4.png"):
        write(tmp_path / name)
    labelled = open_labelled(str(tmp_path), size=4)
    assert labelled.classes == ("a", "b")
    assert labelled.source.keys == ("a/3.png", "b/1.png", "b/deep/2.png")
    np.testing.assert_array_equal(labelled.labels, [0, 1, 1])


def test_a_sample_keeps_its_labels(tmp_path):
    for i in range(20):
        write(tmp_path / ("even" if i % 2 == 0 else "odd") / f"{i:02}.png")
    labelled = open_labelled(str(tmp_path), size=4, limit=9)
    assert len(labelled.source) == 9
    assert [labelled.classes[label] for label in labelled.labels] == [
        key.split("/")[0] for key in labelled.source.keys
    ]


def test_images_in_no_class_and_single_classes_are_refused(tmp_path):
    write(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match="classes are a, expected two"):
        open_labelled(str(tmp_path), size=4)
    write(tmp_path / "loose.png")
    with pytest.raises(ValueError, match=r"1 images lie in no class folder, such as loose\.png"):
        open_labelled(str(tmp_path), size=4)


def test_generated_images_have_no_labels():
    with pytest.raises(ValueError, match="noise has no labels"):
        open_labelled("noise", size=4, limit=3)


def _png(level):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue())


class PosjaxLabelled(tfds.core.GeneratorBasedBuilder):
    """Dark and bright images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["dark", "bright"])
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(10):
            yield i, {"image": _png(25 * i), "label": "bright" if i >= 5 else "dark"}


class PosjaxUnlabelled(PosjaxLabelled):
    """The same without labels."""

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self):
        for i in range(3):
            yield i, {"image": _png(i)}


def test_a_datasets_labels_are_those_of_its_images(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    labelled = open_labelled("tfds:posjax_labelled", size=4, limit=7)
    assert labelled.classes == ("dark", "bright")
    levels = np.array([labelled.source[i].mean() for i in range(7)])
    np.testing.assert_array_equal(labelled.labels, levels > 0.45)
    with pytest.raises(ValueError, match="no feature label of classes; its features are image"):
        open_labelled("tfds:posjax_unlabelled", size=4)
