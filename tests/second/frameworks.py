"""Networks of other frameworks are repadded, wrapped and probed, unchanged."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import posjax
from posjax.encoders import wrap

SIZE = 32
CHANNELS = (8, 16)


def of_equinox():
    keys = jax.random.split(jax.random.key(0), 2)
    sizes = zip((3, *CHANNELS), CHANNELS, keys, strict=False)
    network = eqx.nn.Sequential(
        [
            layer
            for inputs, outputs, key in sizes
            for layer in (
                eqx.nn.Conv2d(inputs, outputs, 3, padding=1, key=key),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.MaxPool2d(3, 2, padding=1),
            )
        ]
    )
    variables, static = eqx.partition(network, eqx.is_array)

    def fn(variables, images):
        maps = jax.vmap(eqx.combine(variables, static))(images.transpose(0, 3, 1, 2))
        return {"f1": maps.transpose(0, 2, 3, 1)}

    return fn, variables


def of_haiku():
    def forward(images):
        x, maps = images, {}
        for number, channels in enumerate(CHANNELS, 1):
            x = maps[f"f{number}"] = jax.nn.relu(hk.Conv2D(channels, 3)(x))
            x = hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        return maps

    network = hk.without_apply_rng(hk.transform(forward))
    return network.apply, network.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))


def of_keras():
    network = keras.Sequential([keras.Input((SIZE, SIZE, 3))])
    for channels in CHANNELS:
        network.add(keras.layers.Conv2D(channels, 3, padding="same", activation="relu"))
        network.add(keras.layers.MaxPooling2D(3, 2, padding="same"))
    kept = [variable.value for variable in network.non_trainable_variables]

    def fn(variables, images):
        return network.stateless_call(variables, kept, images)[0]

    return fn, [variable.value for variable in network.trainable_variables]


@pytest.fixture(scope="module", params=[of_equinox, of_haiku, of_keras])
def network(request):
    return request.param()


@pytest.fixture(scope="module")
def images():
    shape = (2, SIZE, SIZE, 3)
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def test_every_convolution_and_pool_that_pads_is_found(network, images):
    layers = posjax.padded_layers(*network, images)
    assert [layer.kind for layer in layers] == ["conv", "max_pool"] * (len(layers) // 2) + (
        ["conv"] if len(layers) % 2 else []
    )
    assert len(layers) >= 3


def test_its_padding_is_the_identity_under_the_mode_that_it_has(network, images):
    fn, variables = network
    same = posjax.repad(fn, lambda layer: layer.mode)(variables, images)
    jax.tree.map(np.testing.assert_array_equal, same, fn(variables, images))


def test_under_circular_padding_it_commutes_with_rolls(network, images):
    fn, variables = network
    circular = jax.jit(posjax.repad(fn, "circular"))
    stride = 2 ** len(CHANNELS)
    rolled = circular(variables, np.roll(images, stride, axis=2))
    for ours, theirs in zip(
        jax.tree.leaves(rolled), jax.tree.leaves(circular(variables, images)), strict=True
    ):
        shift = stride * theirs.shape[2] // SIZE
        np.testing.assert_allclose(ours, np.roll(theirs, shift, axis=2), atol=1e-5)


def test_it_is_probed_from_end_to_end(network):
    encoder = wrap(*network, name="other", image_size=SIZE)
    results = posjax.compare(
        encoder,
        paddings=["zeros", "circular"],
        maps=["H"],
        controls=[],
        num_train=24,
        num_test=6,
        image_size=SIZE,
        batch_size=4,
        epochs=4,
    )
    spc = results.to_frame().query("score == 'spc'").set_index("padding")["mean"]
    assert spc["zeros"] > spc["circular"] + 0.1
