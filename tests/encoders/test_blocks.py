"""What all encoders promise: modes by layer, the border, the interior, sizes and precision.

The networks are small: one of each kind of block and shortcut.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posjax.encoders import create
from posjax.encoders.blocks import Conv, mode_at
from posjax.encoders.resnet import ResNet
from posjax.encoders.vgg import VGG
from posjax.layers import MODES, InputTooSmall

CONSTANT = ("circular", "replicate", "reflect", "symmetric")
SMALL = {
    "basic": ResNet(blocks=(1, 1, 1, 1)),
    "bottleneck": ResNet(blocks=(1, 1, 1, 1), bottleneck=True),
    "cifar": ResNet(blocks=(1, 1, 1), cifar=True),
    "vgg": VGG(depth=8, batch_norm=True, divisor=4),
}
kinds = pytest.mark.parametrize("kind", SMALL)
# Every mode on the quickest kind; on the others one that repeats pixels and one that does not.
kinds_and_modes = pytest.mark.parametrize(
    ("kind", "mode"),
    [("cifar", mode) for mode in (*CONSTANT, "zeros", "partial")]
    + [(kind, mode) for kind in SMALL if kind != "cifar" for mode in ("zeros", "reflect")],
)
few = settings(max_examples=20, deadline=None)


def small(kind, padding="zeros", **options):
    return SMALL[kind].clone(padding=padding, **options)


# The mode of each layer


@few
@given(mode=st.sampled_from(MODES), layer=st.text(max_size=10))
def test_a_word_is_the_mode_of_every_layer_and_a_function_is_called_with_each(mode, layer):
    layers = []
    assert mode_at(mode, layer) == mode
    assert mode_at(lambda name: layers.append(name) or mode, layer) == mode
    assert layers == [layer]


@few
@given(
    mode=st.one_of(
        st.none(),
        st.integers(),
        st.lists(st.integers(), max_size=2),
        st.text(max_size=6).filter(lambda word: word not in MODES),
    )
)
def test_a_function_that_returns_no_mode_is_refused_with_the_layer_named(mode):
    with pytest.raises(ValueError, match=r"for layer layer1\.0\.conv1") as error:
        mode_at(lambda name: mode, "layer1.0.conv1")
    assert repr(mode) in str(error.value)


@pytest.mark.parametrize(
    ("kind", "layer"),
    [("basic", "conv1"), ("basic", "maxpool"), ("basic", "layer2.0.conv2"), ("vgg", "features.8")],
)
def test_encoders_refuse_functions_that_return_no_mode(kind, layer, shapes):
    encoder = small(kind, lambda name: "same" if name == layer else "zeros")
    with pytest.raises(ValueError, match=f"'same'.* {layer}"):
        shapes(encoder, 33, 33)


@pytest.mark.parametrize(
    ("kind", "layer", "first"),
    [
        ("basic", "conv1", 1),
        ("basic", "maxpool", 2),
        ("bottleneck", "layer2.0.conv2", 3),
        ("cifar", "layer3.0.conv1", 4),
        ("vgg", "features.8", 3),
    ],
)
def test_another_mode_of_one_layer_changes_the_stages_from_there_on(
    kind, layer, first, encode, numbered, images
):
    variables, x = numbered(small(kind)), images(0, 1, 33, 33)
    zeros = encode(small(kind), variables, x)
    other = encode(small(kind, lambda k: "circular" if k == layer else "zeros"), variables, x)
    for i, (stage, values) in enumerate(sorted(zeros.items()), 1):
        same = np.allclose(other[stage], values, atol=1e-5 * values.std())
        assert same == (i < first)


# The border and the interior


@kinds_and_modes
def test_a_constant_image_gives_constant_stages_under_modes_that_repeat_pixels(
    kind, mode, encode, numbered
):
    encoder = small(kind, mode)
    x = np.full((1, 33, 33, 3), 0.7, np.float32) * np.float32([1, 0.5, 0.1])
    for stage in encode(encoder, numbered(encoder), x).values():
        spread = np.ptp(stage, axis=(1, 2)).max() / stage.std()
        assert (spread < 1e-4) == (mode in CONSTANT)


@kinds
@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_circular_stages_roll_with_the_image_by_their_stride(kind, mode, encode, numbered, images):
    encoder = small(kind, mode)
    variables, x = numbered(encoder), images(0, 1, 64, 64)
    straight = encode(encoder, variables, x)
    for stage, field in encoder.receptive_fields().items():
        values, stride = straight[stage], field.stride
        rolled = encode(encoder, variables, np.roll(x, (stride, -stride), (1, 2)))[stage]
        same = np.allclose(np.roll(values, (1, -1), (1, 2)), rolled, atol=1e-4 * values.std())
        assert same == (mode == "circular")


@kinds
def test_interior_features_are_equal_in_every_mode_and_the_border_is_not(
    kind, encode, numbered, images
):
    x, stages = images(0, 1, 88, 90), ("f1", "f2", "f3")
    variables = numbered(small(kind))
    zeros = encode(small(kind), variables, x, stages)
    fields = small(kind).receptive_fields()
    modes = (*CONSTANT, "partial") if kind == "cifar" else ("reflect", "partial")
    for mode in modes:
        others = encode(small(kind, mode), variables, x, stages)
        for stage in stages:
            stride, before, size = fields[stage]
            after = size - 1 - before
            inside = tuple(
                slice(-(-before // stride), (side - 1 - after) // stride + 1)
                for side in x.shape[1:3]
            )
            here, there = others[stage][:, *inside], zeros[stage][:, *inside]
            assert min(here.shape[1:3]) >= 4
            spread = zeros[stage].std()
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-4 * spread)
            assert np.abs(others[stage] - zeros[stage])[:, 0].max() > 1e-2 * spread


@kinds_and_modes
def test_flipping_image_and_kernels_flips_the_stages_where_strides_divide(
    kind, mode, encode, numbered, images
):
    encoder = small(kind, mode)
    variables = numbered(encoder)
    flipped = jax.tree.map(lambda a: a[::-1, ::-1] if a.ndim == 4 else a, variables)

    def flips(height, width):
        x = images(0, 1, height, width)
        straight = encode(encoder, variables, x)
        back = encode(encoder, flipped, x[:, ::-1, ::-1])
        return [
            np.allclose(back[stage][:, ::-1, ::-1], values, atol=1e-4 * values.std())
            for stage, values in sorted(straight.items())
        ]

    # Pools divide even sizes. Strided convolutions divide one more than a multiple of the stride,
    # as 225 is; at 64, as at 224, they leave the last padded row out.
    side, other = (32, 33) if kind == "vgg" else (33, 64)
    assert all(flips(side, side))
    assert flips(other, side) == [f.stride == 1 for f in encoder.receptive_fields().values()]


# Sizes


@pytest.mark.parametrize(
    ("encoder", "smallest", "last"),
    [
        (small("cifar", "reflect"), 5, 2),
        (small("basic", "circular"), 3, 1),
        (small("basic", "reflect"), 33, 2),
        (small("bottleneck", "reflect"), 17, 1),
        (small("vgg", "zeros"), 16, 1),
        (small("vgg", "reflect"), 32, 2),
        # Unpadded: the receptive field of the last stage's only response.
        (small("basic", "valid"), 195, 1),
        (create("vgg11", padding="valid"), 134, 1),
    ],
)
def test_too_small_an_image_is_refused_with_the_smallest_size_which_works(
    encoder, smallest, last, shapes
):
    assert [*shapes(encoder, smallest, smallest).values()][-1][:2] == (last, last)
    for size in ((smallest - 1, smallest), (smallest + 1, smallest - 1)):
        words = rf"{size[0]}x{size[1]} .* smallest that works is {smallest}x{smallest}"
        with pytest.raises(InputTooSmall, match=words):
            shapes(encoder, *size)


def test_too_small_an_image_is_refused_with_variables_under_jit_and_for_logits(numbered, images):
    encoder = small("cifar", "reflect", num_classes=10)
    variables, x = numbered(encoder), images(0, 1, 4, 9)
    logits = functools.partial(encoder.apply, method="logits")
    for apply in (jax.jit(encoder.apply), functools.partial(jax.eval_shape, logits)):
        with pytest.raises(InputTooSmall, match=r"4x9 .* smallest that works is 5x5"):
            apply(variables, x)


@pytest.mark.parametrize("mode", ["zeros", "replicate", "partial"])
def test_one_pixel_is_enough_where_a_mode_can_always_pad(mode, shapes):
    assert [*shapes(small("basic", mode), 1, 1).values()] == [
        (1, 1, width) for width in (64, 64, 128, 256, 512)
    ]


# Training and precision


def test_training_moves_every_running_statistic_and_nothing_else(numbered, images):
    encoder = small("vgg")
    variables = numbered(encoder)
    step = jax.jit(lambda v, x: encoder.apply(v, x, train=True, mutable=["batch_stats"])[1])
    changed = step(variables, images(0, 2, 16, 16))
    assert set(changed) == {"batch_stats"}
    before, after = variables["batch_stats"], changed["batch_stats"]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(np.any(a != b)), after, before))


@kinds
def test_bfloat16_stages_are_near_those_of_float32(kind, encode, numbered, images):
    variables, x = numbered(small(kind)), images(0, 1, 33, 33)
    expected = encode(small(kind), variables, x)
    for stage, values in encode(small(kind, dtype=jnp.bfloat16), variables, x).items():
        assert values.dtype == jnp.bfloat16
        error = np.abs(np.float32(values) - expected[stage]).mean() / expected[stage].std()
        assert 1e-5 < error < 0.03


@pytest.mark.parametrize("use_bias", [False, True])
def test_a_convolution_computes_in_its_dtype_from_float32_parameters(use_bias):
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 3)).astype(np.float32)
    layer = Conv(4, 3, stride=2, mode="circular", use_bias=use_bias, dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x)
    shapes = {"kernel": (3, 3, 3, 4)} | ({"bias": (4,)} if use_bias else {})
    assert {name: leaf.shape for name, leaf in variables["params"].items()} == shapes
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    response = layer.apply(variables, x)
    assert (response.dtype, response.shape) == (jnp.bfloat16, (2, 3, 3, 4))
    precise = Conv(4, 3, stride=2, mode="circular", use_bias=use_bias).apply(variables, x)
    np.testing.assert_allclose(np.float32(response), precise, atol=0.05)


def test_kernels_start_as_he_et_al_draw_them():
    variables = Conv(512, 3).init(jax.random.key(0), np.zeros((1, 4, 4, 64), np.float32))
    kernel = variables["params"]["kernel"]
    assert abs(np.mean(kernel)) < 1e-3
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 512)), rtol=0.01)
