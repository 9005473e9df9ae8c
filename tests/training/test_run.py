"""Runs of training: what is refused before anything is written."""

import dataclasses

import pytest
from colours import write_images

from posjax.training import Classification, OptimizerSettings, TrainingSettings, run


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    train, test = (str(write_images(folder / part, 4)) for part in ("train", "test"))
    return TrainingSettings(images=train, test_images=test, workdir=folder / "run")


def test_folders_that_are_missing_or_have_other_classes_are_refused_by_name(settings, tmp_path):
    other = write_images(tmp_path / "other", 2)
    (other / "red").rename(other / "green")
    with pytest.raises(ValueError, match=r"^test_images: no folder 'nowhere'"):
        Classification.open(dataclasses.replace(settings, test_images="nowhere"))
    with pytest.raises(ValueError, match=r"^test_images has the classes blue, green; those of"):
        Classification.open(dataclasses.replace(settings, test_images=str(other)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 9}, "^batch_size=9: there are only 8 training images"),
        ({"batch_size": 6}, "^batch_size=6 is no multiple of the 4 devices"),
        ({"epochs": 1, "warmup_epochs": 0.9, "batch_size": 8}, "^warmup_epochs=0.9 leaves none"),
        ({"image_size": 100_000, "batch_size": 8}, "^image_size: a network on 2 images of 100,000"),
        ({"weights": "nowhere.npz", "batch_size": 8}, "^weights: there is no file nowhere.npz"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(settings, changes, message):
    others = {name: changes[name] for name in ("weights", "image_size") if name in changes}
    optimizer = OptimizerSettings(**{k: v for k, v in changes.items() if k not in others})
    changed = dataclasses.replace(settings, optimizer=optimizer, devices=4, **others)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(Classification.open(changed))
    assert not settings.workdir.exists()
