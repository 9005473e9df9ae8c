"""Training on masks: what it opens, and what it refuses."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from shapes import SIDE, write_shapes

from posjax.training import OptimizerSettings, Saliency, SaliencySettings


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The first four of six images are those to train on."""
    folder = write_shapes(tmp_path_factory.mktemp("shapes"), 6, by_place=True)
    return SaliencySettings(
        encoder="vgg8_bn_quarter",
        optimizer=OptimizerSettings(crop_margin=0),
        images=f"{folder}/images",
        masks=f"{folder}/masks",
        num_train=4,
    )


def test_the_test_images_are_those_behind_the_training_images(settings):
    datasets = Saliency.open(settings)
    assert [len(part.source) for part in (datasets.train, datasets.test)] == [4, 2]
    assert not set(datasets.train.source.keys) & set(datasets.test.source.keys)


def test_test_images_that_are_trained_on_are_refused(settings):
    same = {"test_images": f"{settings.images}/../images", "test_masks": settings.masks}
    with pytest.raises(ValueError, match=r"^test_images: 4 of them are among those of images"):
        Saliency.open(dataclasses.replace(settings, **same))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": None}, "^num_train is needed without test_images"),
        ({"test_masks": "x"}, "^test_masks needs test_images"),
    ],
)
def test_settings_that_cannot_run_are_refused_by_name(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings, **changes)


def test_masks_and_pairs_that_were_left_out_are_said(settings, tmp_path):
    for name in ("images", "masks"):
        shutil.copytree(getattr(settings, name), tmp_path / name)
    (tmp_path / "images" / "000.png").write_bytes(b"nothing")
    Image.new("L", (SIDE, SIDE), 3).save(tmp_path / "masks" / "002.png")
    Image.fromarray(np.eye(SIDE, dtype=np.uint8)).save(tmp_path / "masks" / "005.png")
    folders = {name: str(tmp_path / name) for name in ("images", "masks")}
    with pytest.raises(ValueError, match=r"^images: .*(.|\n)*skip_bad_images=True leaves such"):
        Saliency.open(dataclasses.replace(settings, **folders))
    task = Saliency.open(dataclasses.replace(settings, **folders, skip_bad_images=True))
    assert task.train.source.keys == ("001.png", "003.png", "004.png")
    assert task.test.source.keys == ("005.png",)
    assert task.facts["masks of images"] == "3 of 0 and 255"
    assert task.facts["masks of test images"] == "1 of 0 and 1"
    assert re.match(
        r"2: 000\.png \(no image.*\), 002\.png \(.*values up to 3", task.facts["left out of images"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "no"}, "^images: no folder 'no'"),
        ({"num_train": 9}, "^num_train=9: there are only 6 images"),
        ({"num_test": 3}, "^num_test=3: there are only 2 images"),
    ],
)
def test_images_that_are_missing_or_too_few_are_refused_by_name(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        Saliency.open(dataclasses.replace(settings, **changes))
