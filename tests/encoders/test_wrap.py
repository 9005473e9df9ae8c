"""Networks of the user's own become encoders: from functions, flax, NNX, and files of Python."""

import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import encoders, layers_of
from posjax.encoders import OWN, RANDOM, find_network, wrap

FILE = """
from __future__ import annotations

import flax.linen as nn
import jax
from beside import CHANNELS


class Network(nn.Module):
    channels: int = CHANNELS

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(self.channels, (3, 3))(x))


def make():
    network = Network()
    return network.apply, network.init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 3)))


def number():
    return 3


def broken():
    raise OSError("no weights here")
"""


class Classifier(nn.Module):
    """Three convolutions with pools, then class scores."""

    @nn.compact
    def __call__(self, x):
        for number in (1, 2, 3):
            x = nn.relu(nn.Conv(4 * number, (3, 3), name=f"conv{number}")(x))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def classifier():
    network, image = Classifier(), jnp.zeros((1, 32, 32, 3))
    init = jax.jit(lambda key: network.init(key, image))
    return wrap(
        network.apply,
        init(jax.random.key(0)),
        name="classifier",
        stages=["conv*"],
        init=init,
        image_size=32,
    )


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "network.py"
    path.with_name("beside.py").write_text("CHANNELS = 5")
    path.write_text(FILE)
    return path


def test_a_wrapped_encoder_gives_the_stages_that_create_gives_under_a_padding(images, numbered):
    padding = "reflect+features.4=circular"
    expected, x = encoders.create("vgg8_bn_quarter", padding), images(0, 1, 32, 32)
    zeros = encoders.create("vgg8_bn_quarter")
    variables = numbered(zeros)
    names = wrap(zeros.apply, variables, name="mine", image_size=32).network.layers
    (second,) = (name for name in names if name.endswith("features_4"))
    encoder = wrap(zeros.apply, variables, name="mine", padding=f"reflect+{second}=circular")
    in_words, as_data = (
        jax.jit(way.apply)(variables, x) for way in (encoder, encoder.with_padding_as_data())
    )
    for stage, answer in jax.jit(expected.apply)(variables, x).items():
        atol = 1e-5 * np.std(answer)
        np.testing.assert_allclose(in_words[stage], answer, rtol=0, atol=atol)
        np.testing.assert_allclose(as_data[stage], answer, rtol=0, atol=atol)


def test_stages_are_taken_from_inside_of_a_network_that_returns_scores(classifier, images):
    x = images(0, 2, 32, 32)
    stages = jax.jit(classifier.apply)(classifier.variables, x)
    assert {name: s.shape for name, s in stages.items()} == {
        "f1": (2, 32, 32, 4),
        "f2": (2, 16, 16, 8),
        "f3": (2, 8, 8, 12),
    }
    params = classifier.variables["params"]["conv1"]
    first = nn.Conv(4, (3, 3)).apply({"params": params}, x)
    np.testing.assert_allclose(stages["f1"], first, atol=1e-6)
    assert "Classifier/conv1" in layers_of(classifier.network.fn, classifier.variables, x)


def test_a_module_of_nnx_becomes_an_encoder(images):
    graph, state = nnx.split(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)))

    def fn(state, x):
        return nnx.merge(graph, state)(x)

    x = images(0, 1, 9, 9)
    encoder = wrap(fn, state, name="nnx", padding="circular", image_size=9)
    rolled = encoder.apply(state, np.roll(x, 3, axis=1))["f1"]
    np.testing.assert_allclose(rolled, np.roll(encoder.apply(state, x)["f1"], 3, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("fn", "problem"),
    [
        (lambda v, x: x.mean(axis=(1, 2)), r"expected maps \[1, h, w, c\], found 'f1'"),
        (lambda v, x: {"f1": x, "f2": x[0]}, "found 'f2' of shape"),
        (lambda v, x: x @ jnp.ones((4, 4)), "mine cannot be traced with images"),
        (lambda v, x: x, "layers of mine that pad are none"),
    ],
    ids=["scores", "not a batch", "an error of its own", "without padding"],
)
def test_functions_that_are_no_encoders_are_refused_by_their_name(fn, problem):
    with pytest.raises(ValueError, match=problem):
        wrap(fn, {}, name="mine", image_size=16)


def test_images_of_a_size_that_a_network_does_not_take_are_refused():
    def fn(variables, x):
        return nn.Conv(3, (3, 3)).apply(variables["conv"], x) + variables["positions"]

    conv = nn.Conv(3, (3, 3)).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables = {"conv": conv, "positions": np.full((1, 16, 16, 3), 0.125, np.float32)}
    network = wrap(fn, variables, name="mine", image_size=16).network
    assert network.stage_shapes(16) == {"f1": (16, 16, 3)}
    with pytest.raises(ValueError, match="image_size: mine does not take images of 32 pixels"):
        network.stage_shapes(32)
    assert "0.125" not in repr(network)


@pytest.mark.parametrize(
    ("padding", "problem"),
    [
        ("valid", "cannot be valid"),
        ("zeros@cropped", "cannot be valid"),
        ("zeros+conv9=reflect", "names 0 layers by conv9; layers of classifier that pad are"),
    ],
)
def test_paddings_that_a_traced_function_cannot_have_are_refused(classifier, padding, problem):
    with pytest.raises(ValueError, match=problem):
        encoders.frozen(classifier.network, OWN, padding)


def test_a_max_pool_keeps_its_lowest_values_under_pool_padding(classifier, images):
    x = images(0, 1, 32, 32) - 1
    kept = encoders.frozen(classifier.network, OWN, pool_padding="lowest")
    plain = classifier.network.fn(classifier.variables, x)
    stages = jax.jit(kept.apply)(classifier.variables, x)
    pooled = nn.max_pool(nn.relu(stages["f3"]), (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    dense = classifier.variables["params"]["Dense_0"]
    scores = pooled.mean(axis=(1, 2)) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(scores, plain, rtol=1e-4, atol=1e-5)


def test_random_weights_come_from_init_and_differ_between_seeds(classifier):
    drawn = [encoders.frozen(classifier.network, RANDOM, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].digest == drawn[1].digest != drawn[2].digest
    assert drawn[2].seed == 1
    with pytest.raises(ValueError, match="without init there are no others"):
        encoders.frozen(classifier.network.clone(init=None), RANDOM)


def test_what_a_function_computes_is_part_of_its_fingerprint():
    def made(value):
        kernel = np.full((3, 3, 3, 1), value, np.float32)
        return wrap(lambda v, x: nn.Conv(1, (3, 3)).apply(v, x), kernel_of(kernel), name="mine")

    def closed(value):
        return wrap(
            lambda v, x: value * nn.Conv(1, (3, 3)).apply(v, x),
            kernel_of(np.ones((3, 3, 3, 1), np.float32)),
            name="mine",
        )

    def kernel_of(kernel):
        return {"params": {"kernel": kernel, "bias": np.zeros(1, np.float32)}}

    assert made(1).fingerprint() != made(2).fingerprint()
    assert closed(1.0).fingerprint() == closed(1.0).fingerprint() != closed(2.0).fingerprint()


@pytest.mark.parametrize("kind", ["cifar", "vgg"])
def test_receptive_fields_are_found_by_a_pixel_that_is_not_a_number(kind, small, numbered):
    network = small(kind)
    wrapped = wrap(network.apply, numbered(network), name="mine", image_size=64).network
    for stage, field in network.receptive_fields().items():
        found = wrapped.receptive_fields()[stage]
        assert found.stride == field.stride
        assert field.size <= found.size < field.size + 2 * field.stride


def test_a_network_that_sees_the_whole_image_has_no_receptive_field():
    def fn(kernel, x):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y * y.mean(axis=(1, 2), keepdims=True)

    network = wrap(fn, np.ones((3, 3, 3, 2), np.float32), name="mine", image_size=8).network
    with pytest.raises(ValueError, match="mine: the receptive fields of its stages cannot"):
        network.receptive_fields()


def test_a_file_gives_its_network_and_may_import_from_beside_it(network_file):
    network = find_network(f"{network_file}:make")
    assert network.stage_shapes(8) == {"f1": (8, 8, 5)}
    assert find_network(f"{network_file}:make") is network
    content = network_file.read_text()
    network_file.write_text(content.replace("nn.relu", "nn.gelu"))
    os.utime(network_file, (0, 0))
    changed = find_network(f"{network_file}:make")
    network_file.write_text(content)
    assert (changed.file, changed.program) != (network.file, network.program)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("missing", "there is no function missing in it"),
        ("number", "returned int; expected"),
        ("broken", "OSError: no weights here"),
    ],
)
def test_a_file_that_gives_no_network_is_refused_by_its_name(network_file, function, problem):
    with pytest.raises(ValueError, match=problem) as error:
        find_network(f"{network_file}:{function}")
    assert str(network_file) in str(error.value)


@pytest.mark.parametrize("text", ["vgg17", "nowhere.py:make", "nowhere.py"])
def test_what_is_no_encoder_is_refused(text):
    with pytest.raises(ValueError, match=r"expected FILE\.py:FUNCTION or one|there is no file"):
        find_network(text)
