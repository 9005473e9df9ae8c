"""A run of PPP refuses what it cannot measure before it makes a workdir."""

import pytest

from posjax.encoders import Padding
from posjax.ppp import run
from posjax.runs.settings import Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": ("pixels",)}, "^encoder: PPP needs an encoder that pads"),
        ({"weights": ("random", "imagenet")}, "^weights: PPP takes one"),
        ({"paddings": (Padding.parse("valid@cropped"),)}, r"^paddings: .*valid@cropped"),
        (
            {"paddings": (Padding.parse("valid+features.0=zeros"),)},
            r"^paddings: .*valid\+features.0=zeros",
        ),
        (
            {"coordinator_address": "a:1", "num_processes": 2, "process_id": 0},
            "^coordinator_address: PPP runs on one host",
        ),
        ({"num_train": 4}, "^num_train: PPP needs 5 images or more, not 4"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, changes, message):
    values = {
        "encoder": ("vgg8_bn_quarter",),
        "weights": ("random",),
        "paddings": (Padding("zeros"),),
        "images": "noise",
        "test_images": ("noise",),
        "image_size": 36,
        "num_train": 6,
        "num_test": 2,
        "epochs": 1,
        "workdir": tmp_path / "run",
    }
    with pytest.raises(ValueError, match=message):
        run(Settings(**values | changes), title="PPP", say=lambda _: None)
    assert not (tmp_path / "run").exists()
