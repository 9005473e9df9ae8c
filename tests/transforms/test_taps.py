"""Maps from inside of a network are what its layers return."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import posjax
from posjax.transforms.taps import maps_of


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(4, (3, 3))(x) + x)


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
        for index in range(3):
            x = nn.remat(Block)(name=f"block{index}")(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(5)(x.mean((1, 2)))


@pytest.fixture(scope="module")
def network():
    images = np.random.default_rng(0).random((2, 16, 16, 4), np.float32)
    variables = jax.jit(Classifier().init)(jax.random.key(0), images)
    expected = Classifier().apply(variables, images, capture_intermediates=True)[1]["intermediates"]
    return Classifier().apply, variables, images, expected


def test_layers_are_listed_with_the_shape_of_their_map(network):
    apply, variables, images, _ = network
    layers = posjax.layers_of(apply, variables, images)
    shapes = {layer.rpartition("/")[2]: layer.shape for layer in layers}
    assert shapes["block0"] == (2, 16, 16, 4)
    assert shapes["block2"] == (2, 4, 4, 4)
    assert shapes["Conv_0"] == (2, 4, 4, 4)
    assert not any("Dense" in layer for layer in layers)


@pytest.mark.parametrize("names", [["block0", "block2"], ["*/block[02]"], ["block2", "block0"]])
def test_maps_of_named_layers_are_what_the_layers_return(names, network):
    apply, variables, images, expected = network
    maps = jax.jit(maps_of(apply, names))(variables, images)
    assert list(maps) == ["f1", "f2"]
    for stage, layer in zip(maps, ("block0", "block2"), strict=True):
        np.testing.assert_allclose(maps[stage], expected[layer]["__call__"][0], atol=1e-6)


def test_maps_come_from_inside_of_a_repadded_network(network):
    apply, variables, images, _ = network
    repadded = maps_of(posjax.repad(apply, "circular"), ["block0"])(variables, images)["f1"]
    rolled = maps_of(posjax.repad(apply, "circular"), ["block0"])(variables, np.roll(images, 3, 2))
    np.testing.assert_allclose(rolled["f1"], np.roll(repadded, 3, 2), atol=1e-5)


@pytest.mark.parametrize("name", ["block7", "Conv_0"])
def test_a_name_that_fits_no_layer_or_several_is_refused_with_the_names(name, network):
    apply, variables, images, _ = network
    with pytest.raises(ValueError, match=f"{name}.*there are .*block0"):
        maps_of(apply, [name])(variables, images)
