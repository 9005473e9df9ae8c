"""Runs of training: what is refused before anything is written."""

import dataclasses
import re

import levels  # noqa: F401 (makes its datasets known)
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
    message = "^test_images: expected the 2 classes of images; it lacks 1: red"
    with pytest.raises(ValueError, match=f"{message} and has 1: green beside them$"):
        Classification.open(dataclasses.replace(settings, test_images=str(other)))
    for images, argument in (("noise", "images"), ("black", "images"), ("white", "test_images")):
        with pytest.raises(ValueError, match=f"^{argument}: {images} is generated, .*expected"):
            Classification.open(dataclasses.replace(settings, **{argument: images}))


def plan_of(task):
    """The lines of the plan, by their names. Nothing is trained."""
    said = []

    def say(text):
        said.append(text)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run(task, say=say)
    return dict(re.split(": +", line, maxsplit=1) for line in said[0].strip().splitlines())


def test_the_plan_says_the_classes_and_what_was_left_out(settings, tmp_path):
    images = write_images(tmp_path / "images", 4)
    bad = images / "red" / "001.png"
    bad.write_bytes(bad.read_bytes()[:-30])
    values = {"images": str(images), "skip_bad_images": True, "workdir": tmp_path / "run"}
    optimizer = OptimizerSettings(batch_size=7)
    changed = dataclasses.replace(settings, **values, optimizer=optimizer, devices=1)
    plan = plan_of(Classification.open(changed))
    assert plan["images"].startswith("7 of ")
    assert plan["classes"] == "2: blue, red"
    assert plan["left out of images"].startswith("1: red/001.png (truncated or damaged PNG")
    assert "left out of test images" not in plan


def test_classes_that_a_split_has_no_image_of_are_said(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    sets = {"images": "tfds:posjax_levels", "test_images": "tfds:posjax_levels:test"}
    facts = Classification.open(dataclasses.replace(settings, **sets)).facts
    assert facts == {"classes": "2: dark, bright", "no test images of": "1: bright"}


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
