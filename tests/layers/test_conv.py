"""Convolution and pooling: numpy.pad and float64 sums, PyTorch's geometry, exact gradients."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import close, conv64, draw, windows

from posjax.layers import MODES, InputTooSmall, conv, conv_widths, max_pool, mode_index

NUMPY = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
    "partial": "constant",
}
TORCH = np.load(Path(__file__).parent / "data" / "layers.npz")
few = settings(max_examples=6, deadline=None)
kernel_sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))
QUICK = {"xla_backend_optimization_level": 0}  # Each shape is compiled for one call.
jitted_conv = jax.jit(conv, static_argnames=("stride", "mode"), compiler_options=QUICK)
jitted_pool = jax.jit(
    max_pool, static_argnames=("window", "stride", "padding", "mode"), compiler_options=QUICK
)


def padded_by_half(x, kernel_size, mode, **options):
    halves = [(k // 2, k // 2) for k in kernel_size]
    return np.pad(x, [(0, 0), *halves, (0, 0)], mode=mode, **options)


# Convolution


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
@few
@given(
    kernel_size=kernel_sizes,
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
)
def test_conv_is_numpy_pad_and_a_valid_convolution(mode, kernel_size, stride, size):
    x, kernel, bias = draw(0, 2, *size, 3), draw(1, *kernel_size, 3, 4), draw(2, 4)
    expected = conv64(padded_by_half(x, kernel_size, NUMPY[mode]), kernel, stride) + bias
    close(jitted_conv(x, kernel, bias, stride=stride, mode=mode), expected)


@few
@given(
    kernel_size=kernel_sizes,
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
)
def test_valid_is_a_convolution_without_padding(kernel_size, stride, size):
    x, kernel, bias = draw(0, 2, *size, 3), draw(1, *kernel_size, 3, 4), draw(2, 4)
    expected = conv64(x, kernel, stride) + bias
    close(jitted_conv(x, kernel, bias, stride=stride, mode="valid"), expected)


@few
@given(
    kernel_size=kernel_sizes,
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_partial_scales_by_taps_inside_before_the_bias(kernel_size, stride, size):
    x, kernel, bias = draw(0, 2, *size, 3), draw(1, *kernel_size, 3, 4), draw(2, 4)
    inside = padded_by_half(np.ones((1, *size, 1)), kernel_size, "constant")
    taps_inside = conv64(inside, np.ones((*kernel_size, 1, 1)), stride)
    response = conv64(padded_by_half(x, kernel_size, "constant"), kernel, stride)
    expected = response * (np.prod(kernel_size) / taps_inside) + bias
    close(jitted_conv(x, kernel, bias, stride=stride, mode="partial"), expected)


def test_partial_of_three_by_three_is_nine_sixths_at_an_edge_and_nine_fourths_in_a_corner():
    x, kernel = np.ones((1, 4, 5, 1), np.float32), draw(0, 3, 3, 1, 1)
    ratio = conv(x, kernel, mode="partial") / conv(x, kernel, mode="zeros")
    expected = np.outer([1.5, 1, 1, 1.5], [1.5, 1, 1, 1, 1.5])
    np.testing.assert_allclose(ratio[0, ..., 0], expected, rtol=1e-5)


def test_zeros_and_no_bias_are_the_default():
    x, kernel = draw(0, 1, 4, 5, 2), draw(1, 3, 3, 2, 3)
    close(conv(x, kernel), conv64(padded_by_half(x, (3, 3), "constant"), kernel))


@pytest.mark.parametrize(("kernel_size", "half"), [(3, 1), (7, 3)])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
def test_a_stride_of_two_uses_the_last_padded_pixels_at_225_and_not_at_224(kernel_size, half, mode):
    kernel = draw(1, kernel_size, kernel_size, 1, 2)

    def spoilt(size):
        """Whether the response depends on the last padded row and column."""
        x = draw(0, 1, 225, 225, 1)[:, :size, :size]
        full = padded_by_half(x, kernel.shape[:2], NUMPY[mode])
        full[:, -1], full[:, :, -1] = 1e3, 1e3
        found = conv(x, kernel, stride=2, mode=mode)
        expected = conv64(full, kernel, 2)
        assert found.shape == expected.shape
        return np.abs(found - expected).max() > 1

    assert spoilt(225)
    assert not spoilt(224)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
def test_flipping_map_and_kernel_flips_the_response_where_strides_divide(mode):
    kernel = draw(1, 3, 3, 2, 2)

    def flipped(height, width):
        x = draw(0, 1, height, width, 2)
        straight = conv(x, kernel, stride=2, mode=mode)
        back = conv(x[:, ::-1, ::-1], kernel[::-1, ::-1], stride=2, mode=mode)[:, ::-1, ::-1]
        return np.allclose(straight, back, atol=1e-5)

    assert flipped(9, 15)
    assert not flipped(8, 15)
    assert not flipped(9, 14)


@pytest.mark.parametrize("mode", MODES)
def test_conv_pads_half_a_kernel_on_every_side_unless_valid(mode):
    halves = ((0, 0), (0, 0)) if mode == "valid" else ((1, 1), (2, 2))
    assert conv_widths((2, 5), mode) == halves


def test_a_gradient_reaches_map_kernel_and_bias():
    x, kernel, bias = draw(0, 1, 4, 4, 2), draw(1, 3, 3, 2, 2), draw(2, 2)
    response = draw(3, 1, 4, 4, 2)
    direction = draw(4, 1, 4, 4, 2), draw(5, 3, 3, 2, 2), draw(6, 2)

    def loss(x, kernel, bias):
        return jnp.sum(response * conv(x, kernel, bias, mode="reflect"))

    gradients = jax.grad(loss, argnums=(0, 1, 2))(x, kernel, bias)
    slopes = [np.sum(g * d) for g, d in zip(gradients, direction, strict=True)]

    def response64(x, kernel):
        return np.sum(response * conv64(padded_by_half(x, (3, 3), "reflect"), kernel))

    # The response is linear in each, so its slope along a direction is its value there.
    expected = [
        response64(direction[0], kernel),
        response64(x, direction[1]),
        np.sum(response * direction[2]),
    ]
    np.testing.assert_allclose(slopes, expected, rtol=1e-4)


def test_bfloat16_stays_bfloat16_under_partial_too():
    x, kernel = jnp.asarray(draw(0, 1, 4, 5, 2), "bfloat16"), jnp.asarray(draw(1, 3, 3, 2, 2))
    for mode in MODES:
        response = conv(x, kernel.astype("bfloat16"), mode=mode)
        assert response.dtype == "bfloat16"
        close(np.float32(response), np.float32(conv(x.astype("float32"), kernel, mode=mode)), 0.02)


def test_an_unknown_mode_is_refused():
    for refused in ("same", "lowest", ""):
        with pytest.raises(ValueError, match=f"{refused!r} is unknown"):
            conv(draw(0, 1, 4, 4, 1), draw(1, 1, 1, 1, 1), mode=refused)
        with pytest.raises(ValueError, match=f"{refused!r} is unknown"):
            conv_widths((3, 3), refused)


@few
@given(k=st.integers(2, 6))
def test_valid_refuses_a_map_smaller_than_the_kernel(k):
    kernel = draw(1, k, k, 1, 1)
    for size in ((k - 1, k), (k, k - 1)):
        with pytest.raises(InputTooSmall, match=f"{k}x{k} .* {size[0]}x{size[1]}$"):
            conv(draw(0, 1, *size, 1), kernel, mode="valid")
    assert conv(draw(0, 1, k, k, 1), kernel, mode="valid").shape == (1, 1, 1, 1)


def test_reflect_refuses_a_map_not_larger_than_half_the_kernel():
    kernel = draw(1, 7, 7, 1, 1)
    with pytest.raises(InputTooSmall, match="height 4 or more, found 3"):
        conv(draw(0, 1, 3, 9, 1), kernel, mode="reflect")
    assert conv(draw(0, 1, 4, 9, 1), kernel, mode="reflect").shape == (1, 4, 9, 1)


# Pooling


POOLS = {
    "vgg": ((2, 7, 10, 3), {"window": 2, "stride": 2}),
    "stem": ((2, 9, 12, 3), {"window": 3, "stride": 2, "padding": 1}),
    "overlap": ((1, 8, 6, 2), {"window": 3, "stride": 1, "padding": 1}),
    "wide": ((1, 11, 8, 2), {"window": 5, "stride": 3, "padding": 2}),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pool_and_its_gradient_are_those_of_pytorch(name):
    shape, options = POOLS[name]
    pooled, gradient = jax.vjp(lambda x: max_pool(x, **options), draw(2, *shape))
    np.testing.assert_array_equal(pooled, TORCH[f"pool.{name}"])
    (gradient,) = gradient(jnp.asarray(draw(3, *pooled.shape)))
    np.testing.assert_allclose(gradient, TORCH[f"pool.{name}.grad"], atol=1e-6)


@pytest.mark.parametrize("mode", NUMPY)
@few
@given(
    window=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    size=st.tuples(st.integers(4, 8), st.integers(4, 8)),
)
def test_max_pool_under_a_mode_is_numpy_pad_and_maximum(mode, window, stride, padding, size):
    # All below zero, so that a padded zero is seen.
    x = -1 - np.abs(draw(0, 2, *size, 3))
    sides = (padding, padding)
    padded = np.pad(x, ((0, 0), sides, sides, (0, 0)), mode=NUMPY[mode])
    found = jitted_pool(x, window=window, stride=stride, padding=padding, mode=mode)
    np.testing.assert_array_equal(found, windows(padded, (window, window), stride).max((-2, -1)))


def test_padding_by_the_lowest_adds_no_maximum():
    x = -1 - np.abs(draw(0, 1, 5, 5, 2))
    found = max_pool(x, window=3, stride=2, padding=1)
    np.testing.assert_array_equal(found[:, 0, 0], x[:, :2, :2].max((1, 2)))
    assert (max_pool(x, window=3, stride=2, padding=1, mode="zeros")[:, 0] == 0).all()


def test_max_pool_keeps_bfloat16():
    x = jnp.asarray(draw(0, 1, 4, 4, 2), "bfloat16")
    pooled = max_pool(x, window=3, stride=2, padding=1)
    assert pooled.dtype == "bfloat16"
    expected = max_pool(np.float32(x), window=3, stride=2, padding=1)
    np.testing.assert_array_equal(np.float32(pooled), expected)


def test_max_pool_refuses_an_unknown_mode_and_a_map_smaller_than_its_window():
    with pytest.raises(ValueError, match="'highest' is unknown"):
        max_pool(draw(0, 1, 4, 4, 1), window=2, stride=2, mode="highest")
    with pytest.raises(InputTooSmall, match=r"3x3 .* 2x4"):
        max_pool(draw(0, 1, 2, 4, 1), window=3, stride=2, mode="valid")
    with pytest.raises(InputTooSmall, match="2 or more, found 1"):
        max_pool(draw(0, 1, 1, 4, 1), window=3, stride=2, padding=1, mode="reflect")


# Modes that are data


@pytest.mark.parametrize("mode", NUMPY)
@few
@given(
    kernel_size=kernel_sizes,
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
)
def test_conv_under_an_integer_is_conv_under_its_word(mode, kernel_size, stride, size):
    x, kernel, bias = draw(0, 2, *size, 3), draw(1, *kernel_size, 3, 4), draw(2, 4)
    by_integer = jax.jit(conv, static_argnames="stride", compiler_options=QUICK)
    found = by_integer(x, kernel, bias, stride=stride, mode=jnp.int32(mode_index(mode)))
    close(found, conv(x, kernel, bias, stride=stride, mode=mode))


@pytest.mark.parametrize("mode", NUMPY)
def test_max_pool_under_an_integer_is_max_pool_under_its_word(mode):
    x = -1 - np.abs(draw(0, 2, 7, 8, 3))
    pool = functools.partial(max_pool, window=3, stride=2, padding=1)
    found = pool(x, mode=jnp.int32(mode_index(mode)))
    np.testing.assert_array_equal(found, pool(x, mode=mode))


@pytest.mark.parametrize("mode", NUMPY)
def test_conv_is_differentiated_forwards_and_twice(mode):
    x, kernel, direction = draw(0, 1, 5, 5, 2), draw(1, 3, 3, 2, 2), draw(2, 1, 5, 5, 2)
    for chosen in (mode, jnp.int32(mode_index(mode))):
        respond = functools.partial(conv, kernel=kernel, mode=chosen)
        # The response is linear in the map.
        _, slope = jax.jvp(respond, (x,), (direction,))
        close(slope, respond(direction))
        half_square = jax.grad(lambda x, f=respond: jnp.sum(f(x) ** 2) / 2)
        _, curvature = jax.jvp(half_square, (x,), (direction,))
        slope = np.float64(respond(direction))
        np.testing.assert_allclose(np.sum(curvature * direction), np.sum(slope**2), rtol=1e-4)


def test_zeros_in_words_is_the_convolutions_own_padding():
    x, kernel = draw(0, 1, 5, 5, 2), draw(1, 3, 3, 2, 2)
    text = str(jax.make_jaxpr(conv)(x, kernel))
    assert "padding=((1, 1), (1, 1))" in text
    assert "concatenate" not in text
    assert " pad[" not in text
