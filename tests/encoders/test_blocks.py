"""What all encoders promise: modes by layer, the border, the interior, sizes and precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encoders.blocks import Conv, mode_at
from posjax.layers import MODES, InputTooSmall

CONSTANT = ("circular", "replicate", "reflect", "symmetric", "mean", "extrapolate")
DATA = (*CONSTANT, "zeros", "partial")
kinds = pytest.mark.parametrize("kind", ["basic", "bottleneck", "cifar", "vgg"])


# The mode of each layer


@pytest.mark.parametrize("mode", MODES)
def test_a_word_is_the_mode_of_every_layer_and_a_function_is_called_with_each(mode):
    layers = []
    assert mode_at(mode, "conv1") == mode
    assert mode_at(lambda name: layers.append(name) or mode, "conv1") == mode
    assert layers == ["conv1"]


@pytest.mark.parametrize("mode", [None, 3, [0], "same", ""])
def test_a_function_that_returns_no_mode_is_refused_with_the_layer_named(mode):
    with pytest.raises(ValueError, match=r"for layer layer1\.0\.conv1") as error:
        mode_at(lambda name: mode, "layer1.0.conv1")
    assert repr(mode) in str(error.value)


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("basic", {"conv1": 1, "maxpool": 2, "layer1.0.conv1": 2, "layer2.0.conv2": 3}),
        ("bottleneck", {"conv1": 1, "layer2.0.conv2": 3}),
        ("cifar", {"layer1.0.conv2": 2, "layer2.0.conv1": 3}),
        ("vgg", {"features.4": 2, "features.8": 3}),
    ],
)
def test_another_mode_of_one_layer_changes_the_stages_from_there_on(
    kind, first, small, encode, numbered, images
):
    encoder, x = small(kind), images(0, 1, 33, 33)
    variables = numbered(encoder)
    zeros = encode(encoder, variables, x, "zeros")
    for layer, stage in first.items():
        other = encode(encoder, variables, x, f"zeros+{layer}=circular")
        for i, (name, values) in enumerate(sorted(zeros.items()), 1):
            assert np.allclose(other[name], values, atol=1e-5 * values.std()) == (i < stage)


# The border and the interior


@kinds
def test_a_constant_image_gives_constant_stages_under_modes_that_know_the_level(
    kind, small, encode, numbered
):
    encoder = small(kind)
    x = np.full((1, 33, 33, 3), 0.7, np.float32) * np.float32([1, 0.5, 0.1])
    for mode in DATA:
        for stage in encode(encoder, numbered(encoder), x, mode).values():
            spread = np.ptp(stage, axis=(1, 2)).max() / stage.std()
            assert (spread < 1e-4) == (mode in CONSTANT)


@kinds
def test_circular_stages_roll_with_the_image_by_their_stride(kind, small, encode, numbered, images):
    encoder, x = small(kind), images(0, 1, 64, 64)
    for mode in ("circular", "zeros"):
        straight = encode(encoder, numbered(encoder), x, mode)
        for stage, field in encoder.receptive_fields().items():
            moved = np.roll(x, (field.stride, -field.stride), (1, 2))
            rolled = encode(encoder, numbered(encoder), moved, mode)[stage]
            expected = np.roll(straight[stage], (1, -1), (1, 2))
            same = np.allclose(rolled, expected, atol=1e-4 * expected.std())
            assert same == (mode == "circular")


@kinds
def test_interior_features_are_equal_in_every_mode_and_the_border_is_not(
    kind, small, encode, numbered, images
):
    encoder, x = small(kind), images(0, 1, 64, 64)
    zeros = encode(encoder, numbered(encoder), x, "zeros")
    for mode in (*CONSTANT, "partial"):
        others = encode(encoder, numbered(encoder), x, mode)
        for stage in ("f1", "f2", "f3"):
            stride, before, size = encoder.receptive_fields()[stage]
            after = size - 1 - before
            inside = slice(-(-before // stride), (64 - 1 - after) // stride + 1)
            here, there = (stages[stage][:, inside, inside] for stages in (others, zeros))
            assert here.size
            spread = zeros[stage].std()
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-4 * spread)
            assert np.abs(others[stage] - zeros[stage])[:, 0].max() > 1e-2 * spread


@kinds
def test_flipping_image_and_kernels_flips_the_stages_where_strides_divide(
    kind, small, encode, numbered, images
):
    encoder = small(kind)
    variables = numbered(encoder)
    flipped = jax.tree.map(lambda a: a[::-1, ::-1] if a.ndim == 4 else a, variables)

    def flips(side, mode):
        x = images(0, 1, side, side)
        straight = encode(encoder, variables, x, mode)
        back = encode(encoder, flipped, x[:, ::-1, ::-1], mode)
        return [
            np.allclose(back[stage][:, ::-1, ::-1], values, atol=1e-4 * values.std())
            for stage, values in sorted(straight.items())
        ]

    # Pools divide even sizes. Strided convolutions divide one more than a multiple of the stride,
    # as 225 is; at 64, as at 224, they leave the last padded row out.
    divided, other = (64, 33) if kind == "vgg" else (33, 64)
    for mode in DATA:
        assert all(flips(divided, mode))
        strides = [field.stride for field in encoder.receptive_fields().values()]
        assert flips(other, mode) == [stride == 1 for stride in strides]


# Sizes


@pytest.mark.parametrize(
    ("kind", "padding", "smallest", "last"),
    [
        ("basic", "reflect", 9, 2),
        ("basic", "circular", 3, 1),
        # Unpadded: the receptive field of the last stage's only response.
        ("basic", "valid", 51, 1),
        ("vgg", "zeros", 16, 1),
    ],
)
def test_too_small_an_image_is_refused_with_the_smallest_size_which_works(
    kind, padding, smallest, last, small, shapes
):
    encoder = small(kind, padding)
    assert [*shapes(encoder, smallest, smallest).values()][-1][:2] == (last, last)
    words = rf"{smallest}x{smallest - 1} .* smallest that works is {smallest}x{smallest}"
    with pytest.raises(InputTooSmall, match=words):
        shapes(encoder, smallest, smallest - 1)


def test_too_small_an_image_is_refused_with_variables_under_jit_and_for_logits(
    small, numbered, images
):
    encoder = small("cifar", "reflect", num_classes=10)
    variables, x = numbered(encoder), images(0, 1, 2, 9)
    logits = functools.partial(encoder.apply, method="logits")
    for apply in (jax.jit(encoder.apply), functools.partial(jax.eval_shape, logits)):
        with pytest.raises(InputTooSmall, match=r"2x9 .* smallest that works is 3x3"):
            apply(variables, x)


def test_one_pixel_is_enough_where_a_mode_can_always_pad(small, shapes):
    assert [*shapes(small("basic", "partial"), 1, 1).values()] == [
        (1, 1, width) for width in (64, 64, 128)
    ]


# Training and precision


def test_training_moves_every_running_statistic_and_nothing_else(small, numbered, images):
    encoder = small("vgg")
    variables = numbered(encoder)
    step = jax.jit(
        lambda v, x: encoder.apply(v, x, train=True, mutable=["batch_stats"])[1],
        compiler_options={"xla_backend_optimization_level": 0},
    )
    changed = step(variables, images(0, 2, 16, 16))
    assert set(changed) == {"batch_stats"}
    before, after = variables["batch_stats"], changed["batch_stats"]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(np.any(a != b)), after, before))


@pytest.mark.parametrize("kind", ["bottleneck", "vgg"])
def test_bfloat16_stages_are_near_those_of_float32(kind, small, encode, numbered, images):
    variables, x = numbered(small(kind)), images(0, 1, 33, 33)
    expected = encode(small(kind), variables, x, "zeros")
    for stage, values in encode(small(kind, dtype=jnp.bfloat16), variables, x).items():
        assert values.dtype == jnp.bfloat16
        error = np.abs(np.float32(values) - expected[stage]).mean() / expected[stage].std()
        assert 1e-5 < error < 0.03


def test_a_convolution_computes_in_its_dtype_from_float32_parameters():
    x = jax.ShapeDtypeStruct((2, 5, 6, 3), jnp.float32)
    layer = Conv(4, 3, stride=2, mode="circular", use_bias=True, dtype=jnp.bfloat16)
    response, variables = jax.eval_shape(lambda x: layer.init_with_output(jax.random.key(0), x), x)
    shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in variables["params"].items()}
    assert shapes == {"kernel": ((3, 3, 3, 4), jnp.float32), "bias": ((4,), jnp.float32)}
    assert (response.dtype, response.shape) == (jnp.bfloat16, (2, 3, 3, 4))


def test_kernels_start_as_he_et_al_draw_them():
    variables = Conv(512, 3).init(jax.random.key(0), np.zeros((1, 4, 4, 64), np.float32))
    kernel = variables["params"]["kernel"]
    assert abs(np.mean(kernel)) < 1e-3
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 512)), rtol=0.01)
