"""Runs of training: what is refused before images are opened, and what is trained once only."""

from pathlib import Path

import pytest
from colours import write_images

from posjax.training import CLASSES, Recipe, Settings, run

GOOD = {
    "encoder": "resnet20",
    "recipe": Recipe(),
    "images": "nowhere",
    "test_images": "nowhere",
    "workdir": Path("nowhere"),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "pixels"}, "--encoder: 'pixels' cannot be trained; one of vgg11"),
        ({"encoder": "alexnet"}, "--encoder: 'alexnet' cannot be trained"),
        ({"paddings": ("mirror",)}, "padding mode 'mirror' is unknown"),
        ({"paddings": ("zeros", "zeros")}, "--paddings needs one or more different values"),
        ({"paddings": ("valid@enlarged",)}, "--paddings: views such as 'valid@enlarged'"),
        ({"seeds": (0, -1)}, r"--seeds must be from 0 to 2\^32 - 1, found -1"),
        ({"seeds": (2**32,)}, "--seeds must be from 0"),
        ({"image_size": 4, "paddings": ("reflect",)}, "--image_size=4: .*too small"),
        ({"image_size": 16, "encoder": "vgg11"}, "--image_size=16: .*too small"),
        ({"evaluate_every": 0}, "--evaluate_every must be 1 or more, found 0"),
        ({"num_train": 0}, "--num_train must be 1 or more, found 0"),
        ({"normalize": "zscore"}, "--normalize: 'zscore' is unknown"),
        ({"weights_dtype": "int8"}, "--weights_dtype: 'int8' is unknown"),
        ({"devices": -1}, "--devices must be 0 or more, found -1"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_flag(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**GOOD | changes)


def test_folders_that_are_not_there_or_have_other_classes_are_refused_by_their_flag(tmp_path):
    train = write_images(tmp_path / "train", 5)
    other = write_images(tmp_path / "other", 5)
    (other / "red").rename(other / "green")
    where = GOOD | {"workdir": tmp_path / "run", "images": str(train)}
    with pytest.raises(ValueError, match="--test_images: no folder 'nowhere'"):
        run(Settings(**where), CLASSES)
    with pytest.raises(ValueError, match="--test_images has the classes blue, green; those of"):
        run(Settings(**where | {"test_images": str(other)}), CLASSES)
    assert not (tmp_path / "run").exists()
