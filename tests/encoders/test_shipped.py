"""Weights that ship with posjax are those of the padding mode that is asked for, or refused."""

import pytest

from posjax.encoders import shipped, shipped_path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for mode in ("zeros", "reflect"):
        (tmp_path / f"resnet20-{mode}.safetensors").touch()
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    return tmp_path


def test_the_mode_is_the_encoders_own_or_the_one_that_is_named(folder):
    assert shipped_path("resnet20", "cifar10", "zeros") == folder / "resnet20-zeros.safetensors"
    own = shipped_path("resnet20", "cifar10:reflect", "zeros")
    assert own == folder / "resnet20-reflect.safetensors"


@pytest.mark.parametrize("weights", ["random", "imagenet", "cifar10.npz", "a/cifar10:zeros.th"])
def test_other_weights_are_not_looked_for(folder, weights):
    assert shipped_path("resnet20", weights, "zeros") is None


@pytest.mark.parametrize(
    ("name", "weights", "padding", "message"),
    [
        ("resnet20", "cifar10", "circular", "under padding circular; there are .* reflect, zeros"),
        ("resnet20", "cifar10:valid", "zeros", "under padding valid"),
        ("resnet20", "cifar10", None, "say which by cifar10:MODE"),
        ("vgg16", "cifar10", "zeros", "of vgg16 .* there are those under none"),
    ],
)
def test_a_mode_that_was_not_trained_is_refused(folder, name, weights, padding, message):
    with pytest.raises(ValueError, match=message):
        shipped_path(name, weights, padding)
