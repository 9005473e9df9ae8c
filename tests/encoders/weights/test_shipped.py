"""Weights that ship with posjax are those of the padding mode that is named, or refused."""

import hashlib
import json

import jax
import numpy as np
import pytest

from posjax import encoders
from posjax.encoders import read_checkpoint
from posjax.encoders.weights import shipped, shipped_modes, shipped_path

MODES = shipped_modes("resnet20")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for mode in ("zeros", "reflect"):
        (tmp_path / f"resnet20-{mode}.safetensors").touch()
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    return tmp_path


def test_the_mode_is_that_of_the_padding_unless_named(folder):
    assert shipped_path("resnet20", "cifar10", "zeros") == folder / "resnet20-zeros.safetensors"
    named = shipped_path("resnet20", "cifar10:reflect", "zeros")
    assert named == folder / "resnet20-reflect.safetensors"


@pytest.mark.parametrize("weights", ["random", "imagenet", "cifar10.npz", "a/cifar10:zeros.th"])
def test_other_weights_have_no_shipped_path(folder, weights):
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


def test_every_file_is_there_and_the_model_card_has_its_digest():
    assert MODES == ("circular", "partial", "reflect", "replicate", "symmetric", "zeros")
    files = sorted(shipped.FOLDER.iterdir())
    weights = [f"resnet20-{mode}.safetensors" for mode in MODES]
    assert [path.name for path in files] == ["README.md", *weights]
    assert sum(p.stat().st_size for p in files) < 5_000_000
    card = files[0].read_text()
    for mode, path in zip(MODES, files[1:], strict=True):
        assert f"| `{mode}` |" in card
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card


@pytest.mark.parametrize("mode", MODES)
def test_every_file_is_of_its_mode_and_of_one_recipe(mode):
    path = shipped_path("resnet20", "cifar10", mode)
    loaded = encoders.load_with_info("resnet20", f"cifar10:{mode}")
    assert loaded.normalize == "cifar10"
    about = read_checkpoint(path).metadata
    assert (about["encoder"], about["padding"], about["test_count"]) == ("resnet20", mode, "10000")
    first = read_checkpoint(shipped_path("resnet20", "cifar10", MODES[0])).metadata
    for key in ("recipe", "earlier_recipes"):
        assert json.loads(about[key]) == json.loads(first[key])
    assert int(about["test_correct"]) >= 8200
    for leaf in jax.tree.leaves(loaded.variables):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()


def test_trainings_under_other_modes_have_other_weights():
    paths = [shipped_path("resnet20", "cifar10", mode) for mode in MODES if mode != "symmetric"]
    kernels = {read_checkpoint(path).arrays["conv1.weight"].tobytes() for path in paths}
    assert len(kernels) == len(paths)
