"""Runs of training: what is refused before anything is written."""

import dataclasses

import pytest
from colours import write_images

from posjax.training import Classification, TrainingSettings, run


def test_folders_that_are_missing_or_have_other_classes_are_refused_by_name(tmp_path):
    train = write_images(tmp_path / "train", 2)
    other = write_images(tmp_path / "other", 2)
    (other / "red").rename(other / "green")
    workdir = tmp_path / "run"
    settings = TrainingSettings(images=str(train), test_images="nowhere", workdir=workdir)
    with pytest.raises(ValueError, match=r"^test_images: no folder 'nowhere'"):
        run(settings, Classification())
    with pytest.raises(ValueError, match=r"^test_images has the classes blue, green; those of"):
        run(dataclasses.replace(settings, test_images=str(other)), Classification())
    assert not workdir.exists()
