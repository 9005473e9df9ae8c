"""Encoders by name: the known ones, with the published numbers of parameters, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import encoders
from posjax.layers import MODES

# torchvision's documentation, 1000 classes.
IMAGENET = {
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
# He et al. 2016, option A, 10 classes.
CIFAR = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
}


def shapes(encoder, size=64):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(encoder.init, jax.random.key(0), images)


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_the_names_are_those_with_published_numbers_of_parameters():
    assert sorted(encoders.names()) == sorted(
        [*IMAGENET, *CIFAR, "vgg8_bn_quarter", encoders.PIXELS]
    )


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [(name, 1000, number) for name, number in IMAGENET.items()]
    + [(name, 10, number) for name, number in CIFAR.items()],
)
def test_parameters_are_as_many_as_published_and_float32(name, classes, parameters):
    encoder = encoders.create(name, num_classes=classes, dtype=jnp.bfloat16)
    variables = shapes(encoder)
    assert count(variables["params"]) == parameters
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


def test_the_small_vgg_has_a_quarter_of_the_channels():
    stages = jax.eval_shape(
        lambda x: encoders.create("vgg8_bn_quarter").init_with_output(jax.random.key(0), x)[0],
        jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),
    )
    shapes_of_stages = {name: x.shape[1:] for name, x in stages.items()}
    channels = {"f1": 16, "f2": 32, "f3": 64, "f4": 128, "f5": 128}
    assert shapes_of_stages == {
        name: (64 >> i, 64 >> i, c) for i, (name, c) in enumerate(channels.items())
    }


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "resnet20"])
def test_without_classes_there_is_no_head(name):
    head = {"vgg11": {"classifier_0", "classifier_3", "classifier_6"}}
    head |= {"resnet18": {"fc"}, "resnet20": {"linear"}}
    body = shapes(encoders.create(name))["params"]
    whole = shapes(encoders.create(name, num_classes=5))["params"]
    assert set(whole) - set(body) == head[name]
    assert set(body) < set(whole)


def test_zeros_are_the_default_padding():
    encoder = encoders.create("resnet20")
    assert (encoder.padding, encoder.pool_padding, encoder.num_classes) == ("zeros", None, None)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_accepted_for_layers_and_pool(mode):
    encoder = encoders.create("resnet18", padding=mode, pool_padding=mode)
    assert (encoder.padding, encoder.pool_padding) == (mode, mode)


def test_unknown_names_modes_and_classes_are_refused():
    with pytest.raises(ValueError, match=r"'alexnet' is unknown; expected .*vgg16.*resnet110"):
        encoders.create("alexnet")
    with pytest.raises(ValueError, match="'same' is unknown"):
        encoders.create("vgg16", padding="same")
    with pytest.raises(ValueError, match="'same' is unknown"):
        encoders.create("resnet18", pool_padding="same")
    # `lowest` is for pools alone.
    assert encoders.create("resnet18", pool_padding="lowest").pool_padding == "lowest"
    with pytest.raises(ValueError, match="'lowest' is unknown"):
        encoders.create("resnet18", padding="lowest")
    for classes in (0, -1):
        with pytest.raises(ValueError, match=f"1 or more, found {classes}"):
            encoders.create("vgg16", num_classes=classes)


@pytest.mark.parametrize(("name", "count"), [("vgg16", 13), ("resnet18", 18), ("resnet20", 19)])
def test_layers_that_pad_are_all_convolutions_but_1x1_and_the_stems_pool(name, count):
    layers = encoders.padded_layers(name)
    # Of ResNet-18 one is the pool: its three 1x1 projections do not pad.
    assert len(layers) == count
    assert layers[0] in ("features.0", "conv1")
    assert ("maxpool" in layers) == (name == "resnet18")
    assert encoders.padded_layers("resnet50")[2:4] == ("layer1.0.conv2", "layer1.1.conv2")
    assert encoders.padded_layers("pixels") == ()


def test_a_switched_layer_is_what_a_function_of_the_layers_name_makes():
    images = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    variables = encoders.create("resnet20").init(jax.random.key(1), images)
    text = "reflect+layer1.1.conv2=zeros+layer2.0.conv1=circular"
    switched = {"layer1.1.conv2": "zeros", "layer2.0.conv1": "circular"}
    in_words = encoders.create("resnet20", padding=text)
    by_function = encoders.create("resnet20", padding=lambda layer: switched.get(layer, "reflect"))
    found, expected = (module.apply(variables, images) for module in (in_words, by_function))
    plain = encoders.create("resnet20", padding="reflect").apply(variables, images)
    for stage, x in found.items():
        np.testing.assert_array_equal(x, expected[stage])
        assert np.array_equal(x, plain[stage]) == (stage == "f1")


@pytest.mark.parametrize(
    ("padding", "told"),
    [
        ("zeros+features.1=reflect", r"switches features.1; .*features.0, features.3"),
        ("zeros+features.0=same", "'same' is unknown"),
        ("zeros+features.0", "'' is unknown"),
        ("zeros+features.0=reflect+features.0=valid", "switches a layer twice"),
        ("zeros+each=reflect", "switches each"),
    ],
)
def test_switches_of_layers_that_are_not_there_are_refused(padding, told):
    with pytest.raises(ValueError, match=told):
        encoders.create("vgg11", padding=padding)


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "resnet20"])
def test_scores_of_an_encoder_without_a_head_are_refused(name):
    encoder = encoders.create(name)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(encoder.init, jax.random.key(0), images)
    with pytest.raises(ValueError, match="num_classes"):
        jax.eval_shape(lambda v: encoder.apply(v, images, method="logits"), variables)
