"""Training begins with the weights that its settings name, or not at all."""

import jax
import numpy as np
import pytest

from posjax.encoders import Padding
from posjax.encoders.weights.export import to_safetensors
from posjax.training import TrainingSettings
from posjax.training.initial import load_initial, record

NAME = "resnet20"
ZEROS = Padding("zeros")


def settings(weights, **others):
    return TrainingSettings(encoder=NAME, weights=weights, images="a", test_images="b", **others)


def test_each_padding_mode_loads_its_weights(resnet20_variables, tmp_path):
    trees = {mode: resnet20_variables(seed) for seed, mode in enumerate(("zeros", "circular"))}
    for mode, tree in trees.items():
        data = to_safetensors(NAME, tree, {"normalize": "cifar10"}, np.float32)
        (tmp_path / f"{NAME}-{mode}.safetensors").write_bytes(data)
    template = settings(f"{tmp_path}/{{encoder}}-{{padding}}.safetensors")
    for mode, tree in trees.items():
        loaded = load_initial(template, Padding(mode)).variables
        jax.tree.map(np.testing.assert_array_equal, loaded, tree)
    with pytest.raises(FileNotFoundError, match=r"^weights: .*resnet20-reflect\.safetensors"):
        load_initial(template, Padding("reflect"))


def test_random_weights_come_from_no_file():
    assert load_initial(settings("random"), ZEROS) is None


def test_weights_of_another_normalisation_are_refused():
    other = settings("cifar10", normalize="imagenet")
    with pytest.raises(ValueError, match=r"was trained with normalize=cifar10, not imagenet"):
        load_initial(other, ZEROS)


def test_weights_that_do_not_ship_are_refused_by_name():
    with pytest.raises(ValueError, match=r"^weights: there are no weights cifar10 of resnet20"):
        load_initial(settings("cifar10:valid"), ZEROS)


def test_a_training_that_began_with_other_weights_is_refused(tmp_path):
    for _ in range(2):
        record(tmp_path / "one", "random")
    with pytest.raises(ValueError, match="one began with random, these are 12ab"):
        record(tmp_path / "one", "12ab")
