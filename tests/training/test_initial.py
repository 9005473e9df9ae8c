"""Training begins at the weights that are asked for, or not at all."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encoders import create
from posjax.encoders.weights.export import to_safetensors
from posjax.training import CLASSES, MASKS, Recipe, Settings
from posjax.training.initial import load_initial, record, with_encoder
from posjax.training.saliency.network import SaliencyNetwork

NAME = "resnet20"


def variables_of(seed, num_classes=2):
    encoder = create(NAME, num_classes=num_classes)
    return jax.device_get(jax.jit(encoder.init)(jax.random.key(seed), jnp.zeros((1, 16, 16, 3))))


def settings(weights, **others):
    where = {"images": "a", "test_images": "b", "workdir": Path("c")}
    return Settings(
        encoder=NAME,
        weights=weights,
        recipe=Recipe(),
        image_size=16,
        **{"normalize": "cifar10", **where, **others},
    )


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_weights_of_the_padding_mode_are_loaded(tmp_path):
    trees = {"zeros": variables_of(0), "circular": variables_of(1)}
    for mode, tree in trees.items():
        data = to_safetensors(NAME, tree, {"normalize": "cifar10"}, np.float32)
        (tmp_path / f"{NAME}-{mode}.safetensors").write_bytes(data)
    template = settings(f"{tmp_path}/{{encoder}}-{{padding}}.safetensors")
    for mode, tree in trees.items():
        assert_same(load_initial(template, mode).variables, tree)
    with pytest.raises(FileNotFoundError, match=r"--weights: .*resnet20-reflect\.safetensors"):
        load_initial(template, "reflect")


def test_random_weights_are_no_file():
    assert load_initial(settings("random"), "zeros") is None


def test_weights_of_another_normalisation_are_refused():
    other = settings("cifar10", normalize="imagenet")
    with pytest.raises(ValueError, match=r"was trained with --normalize=cifar10, not imagenet"):
        load_initial(other, "zeros")


def test_weights_that_do_not_ship_are_refused_by_their_flag():
    with pytest.raises(ValueError, match="--weights: there are no weights cifar10 of resnet20"):
        load_initial(settings("cifar10:valid"), "zeros")


def test_a_head_comes_along_and_one_that_the_weights_lack_stays_random():
    fresh, trained = variables_of(0), variables_of(1)
    assert_same(CLASSES.with_encoder(fresh, trained), trained)
    bare = variables_of(1, num_classes=None)
    found = CLASSES.with_encoder(fresh, bare)
    assert_same(found["params"].pop("linear"), fresh["params"]["linear"])
    assert_same(found, bare)


def test_a_head_of_other_classes_is_left_out_and_that_is_said(capsys):
    fresh, other = variables_of(0), variables_of(1, num_classes=3)
    found = CLASSES.with_encoder(fresh, other)
    assert "the weights tell 3 classes apart, the images have 2" in capsys.readouterr().err
    assert_same(found["params"]["linear"], fresh["params"]["linear"])
    assert_same(found["params"]["conv1"], other["params"]["conv1"])


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="other layers than what is trained: linear"):
        with_encoder(variables_of(0), variables_of(1, num_classes=3))


def test_a_training_that_began_with_other_weights_is_refused(tmp_path):
    record(tmp_path / "one", "random")
    record(tmp_path / "one", "random")
    with pytest.raises(ValueError, match="one began with random, these are 12ab"):
        record(tmp_path / "one", "12ab")


def test_a_saliency_network_takes_the_encoder_and_leaves_its_head():
    network = SaliencyNetwork(NAME, "zeros")
    images = jnp.zeros((1, 32, 32, 3))
    init = jax.jit(lambda key: network.init(key, images, method="logits"))
    fresh = jax.device_get(init(jax.random.key(0)))
    found = MASKS.with_encoder(fresh, variables_of(1))
    bare = variables_of(1, num_classes=None)
    assert_same({kind: tree["encoder"] for kind, tree in found.items()}, bare)
    decoder = {name: tree for name, tree in fresh["params"].items() if name != "encoder"}
    assert decoder
    assert_same({n: tree for n, tree in found["params"].items() if n != "encoder"}, decoder)
