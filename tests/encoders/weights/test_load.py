"""Weights by the text that names them: files, statistics, paths."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy

from posjax.encoders import load, load_with_info, weights_path


def test_files_are_loaded_with_their_digest_and_statistics(
    tmp_path, variables_of, state_dict_of, same
):
    path = tmp_path / "w.safetensors"
    variables = variables_of("resnet20", 10)
    state = state_dict_of(variables)
    safetensors.numpy.save_file(state, path, metadata={"normalize": "cifar10"})
    same(load("resnet20", path), variables)
    loaded = load_with_info("resnet20", path)
    assert loaded.normalize == loaded.statistics("w") == "cifar10"
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    np.savez(tmp_path / "w.npz", **{f"module.{k}": v for k, v in state.items()})
    plain = load_with_info("resnet20", tmp_path / "w.npz")
    same(plain.variables, variables)
    assert (plain.normalize, plain.statistics("w.npz")) == (None, "imagenet")
    with pytest.raises(
        ValueError, match=r"w\.safetensors: these are the weights of resnet20, not of resnet32"
    ):
        load("resnet32", path)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        load("resnet20", tmp_path / "none.pth")


def test_weights_path_puts_encoder_and_padding_mode_in_place():
    assert weights_path("a/{encoder}-{padding}.npz", "vgg16", "reflect") == "a/vgg16-reflect.npz"
    assert weights_path("imagenet", "vgg16", "reflect") == "imagenet"
    assert weights_path("cifar10", "resnet20", "reflect").endswith("resnet20-reflect.safetensors")
