"""Encoders by name: the published numbers of parameters, the layers that pad, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import encoders

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


def basic_blocks(*counts):
    return [
        f"layer{i + 1}.{j}.conv{k}" for i, n in enumerate(counts) for j in range(n) for k in (1, 2)
    ]


PADDED = {
    "pixels": [],
    "vgg11_bn": [f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 22, 25)],
    "vgg16": [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)],
    "resnet18": ["conv1", "maxpool", *basic_blocks(2, 2, 2, 2)],
    "resnet20": ["conv1", *basic_blocks(3, 3, 3)],
    "resnet50": ["conv1", "maxpool"]
    + [f"layer{i + 1}.{j}.conv2" for i, n in enumerate((3, 4, 6, 3)) for j in range(n)],
}


def variables_of(encoder):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(encoder.init, jax.random.key(0), images)


def test_names_are_those_with_published_numbers_of_parameters():
    assert {*encoders.names()} == {*IMAGENET, *CIFAR, "vgg8_bn_quarter", encoders.PIXELS}


@pytest.mark.parametrize("name", [*IMAGENET, *CIFAR])
def test_parameters_are_float32_and_as_many_as_published(name):
    classes, count = (1000, IMAGENET[name]) if name in IMAGENET else (10, CIFAR[name])
    variables = variables_of(encoders.create(name, num_classes=classes, dtype=jnp.bfloat16))
    leaves = jax.tree.leaves(variables["params"])
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == count
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


def test_small_vgg_has_a_quarter_of_the_channels(shapes):
    channels = {"f1": 16, "f2": 32, "f3": 64, "f4": 128, "f5": 128}
    assert shapes(encoders.create("vgg8_bn_quarter"), 64, 64) == {
        name: (64 >> i, 64 >> i, c) for i, (name, c) in enumerate(channels.items())
    }


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("vgg11", {"classifier_0", "classifier_3", "classifier_6"}),
        ("resnet18", {"fc"}),
        ("resnet20", {"linear"}),
    ],
)
def test_head_is_there_with_classes_only(name, head):
    encoder = encoders.create(name)
    body = variables_of(encoder)
    whole = variables_of(encoders.create(name, num_classes=5))
    assert set(whole["params"]) == set(body["params"]) | head
    images = jnp.zeros((1, 32, 32, 3))
    with pytest.raises(ValueError, match="no classifier head: create it with num_classes"):
        jax.eval_shape(lambda v: encoder.apply(v, images, method="logits"), body)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alexnet", {}, r"'alexnet' is unknown; expected .*vgg16.*resnet110"),
        ("vgg16", {"padding": "same"}, "'same' is unknown"),
        ("resnet18", {"pool_padding": "same"}, "'same' is unknown"),
        ("resnet18", {"padding": "lowest"}, "'lowest' is unknown"),
        ("vgg16", {"num_classes": 0}, "1 or more, not 0"),
        ("vgg16", {"num_classes": -1}, "1 or more, not -1"),
        ("pixels", {"num_classes": 2}, "pixels has no classifier head"),
        ("vgg11", {"padding": "zeros+each=reflect"}, "names each; layers of vgg11 that pad"),
        ("vgg11", {"padding": "zeros+features.1=reflect"}, "names features.1; .*features.0, fea"),
        ("pixels", {"padding": "zeros+conv1=reflect"}, "names conv1; layers .* are none"),
        ("pixels", {"padding": "zeros@cropped"}, "has an alignment; .* are none"),
        ("vgg11", {"padding": "zeros@cropped", "num_classes": 10}, "no classifier head"),
        ("resnet18", {"padding": "zeros@cropped", "pool_padding": "lowest"}, "leave .* pool_pad"),
    ],
)
def test_create_refuses_what_it_does_not_know(name, options, message):
    with pytest.raises(ValueError, match=message):
        encoders.create(name, **options)


@pytest.mark.parametrize("name", PADDED)
def test_padded_layers_are_those_that_a_function_is_called_with(name, shapes):
    layers = {}
    encoder = encoders.create(name, padding=lambda layer: layers.setdefault(layer, "zeros"))
    shapes(encoder, 33, 33)
    assert [*layers] == [*encoders.padded_layers(name)] == PADDED[name]


def test_pool_padding_is_called_with_the_pool_alone(shapes):
    layers, pools = {}, {}
    encoder = encoders.create(
        "resnet18",
        padding=lambda layer: layers.setdefault(layer, "zeros"),
        pool_padding=lambda layer: pools.setdefault(layer, "reflect"),
    )
    shapes(encoder, 33, 33)
    assert [*pools] == ["maxpool"]
    assert {*layers} == {*PADDED["resnet18"]} - {"maxpool"}
