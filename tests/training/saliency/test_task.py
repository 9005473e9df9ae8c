"""Training on masks: what it opens, and what it refuses."""

import dataclasses

import pytest
from shapes import write_shapes

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
