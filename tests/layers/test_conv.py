"""Convolution and pooling: numpy.pad and float64 sums, PyTorch's geometry, exact gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import NUMPY, QUICK, TORCH, close, conv64, draw, numpy_pad, windows

from posjax.layers import MODES, InputTooSmall, conv, max_pool, mode_index

jitted_conv = jax.jit(conv, static_argnames=("stride", "mode"), compiler_options=QUICK)
conv_by_integer = jax.jit(conv, static_argnames="stride", compiler_options=QUICK)


IN_WORDS = ("zeros", "reflect", "mean", "extrapolate", "partial")


def halves(kernel_size):
    return tuple((k // 2, k // 2) for k in kernel_size)


def expected_conv(x, kernel, bias, stride, mode):
    """numpy.pad and a VALID convolution in float64; `partial` scales before the bias."""
    size = kernel.shape[:2]
    if mode == "valid":
        return conv64(x, kernel, stride) + bias
    response = conv64(numpy_pad(x, halves(size), mode), kernel, stride)
    if mode == "partial":
        inside = numpy_pad(np.ones((1, *x.shape[1:3], 1)), halves(size), mode)
        response *= np.prod(size) / conv64(inside, np.ones((*size, 1, 1)), stride)
    return response + bias


@pytest.mark.parametrize(
    ("kernel_size", "stride", "size"),
    [((3, 3), 1, (5, 6)), ((5, 2), 2, (9, 6)), ((1, 4), 3, (5, 8))],
    ids=str,
)
def test_conv_is_numpy_pad_and_a_valid_convolution_by_word_and_by_integer(
    kernel_size, stride, size
):
    x, kernel, bias = draw(0, 2, *size, 3), draw(1, *kernel_size, 3, 4), draw(2, 4)
    for mode in MODES:
        expected = expected_conv(x, kernel, bias, stride, mode)
        close(jitted_conv(x, kernel, bias, stride=stride, mode=mode), expected)
        if mode != "valid":
            integer = jnp.int32(mode_index(mode))
            close(conv_by_integer(x, kernel, bias, stride=stride, mode=integer), expected)


def test_partial_of_three_by_three_is_nine_sixths_at_an_edge_and_nine_fourths_in_a_corner():
    x, kernel = np.ones((1, 4, 5, 1), np.float32), draw(0, 3, 3, 1, 1)
    ratio = conv(x, kernel, mode="partial") / conv(x, kernel, mode="zeros")
    expected = np.outer([1.5, 1, 1, 1.5], [1.5, 1, 1, 1, 1.5])
    np.testing.assert_allclose(ratio[0, ..., 0], expected, rtol=1e-5)


def test_zeros_and_no_bias_are_the_default_and_a_parameter_of_xlas_convolution():
    x, kernel = draw(0, 1, 4, 5, 2), draw(1, 3, 3, 2, 3)
    close(conv(x, kernel), conv64(numpy_pad(x, halves((3, 3)), "zeros"), kernel))
    text = str(jax.make_jaxpr(conv)(x, kernel))
    assert "padding=((1, 1), (1, 1))" in text
    assert "concatenate" not in text
    assert " pad[" not in text


@pytest.mark.parametrize(("kernel_size", "mode"), [(3, "zeros"), (7, "reflect")])
def test_a_stride_of_two_uses_the_last_padded_pixels_of_odd_maps_only(kernel_size, mode):
    kernel = draw(1, kernel_size, kernel_size, 1, 2)

    def last_is_used(size):
        x = draw(0, 1, size, size, 1)
        padded = numpy_pad(x, halves(kernel.shape[:2]), mode)
        padded[:, -1], padded[:, :, -1] = 1e3, 1e3
        return np.abs(conv(x, kernel, stride=2, mode=mode) - conv64(padded, kernel, 2)).max() > 1

    assert last_is_used(25)
    assert not last_is_used(24)


def derivatives(x, kernel, bias, response, direction, mode):
    """Response, gradients of `response`, and the curvature of its half square along `direction`."""
    value, pull = jax.vjp(functools.partial(conv, mode=mode), x, kernel, bias)
    half_square = jax.grad(lambda x: jnp.sum(conv(x, kernel, mode=mode) ** 2) / 2)
    _, curvature = jax.jvp(half_square, (x,), (direction,))
    return value, pull(response), curvature, conv(direction, kernel, mode=mode)


derivatives_of = jax.jit(derivatives, static_argnames="mode", compiler_options=QUICK)
derivatives_by_integer = jax.jit(derivatives, compiler_options=QUICK)


def test_conv_is_differentiated_backwards_forwards_and_twice():
    x, kernel, bias = draw(0, 1, 4, 4, 2), draw(1, 3, 3, 2, 2), draw(2, 2)
    response, direction = draw(3, 1, 4, 4, 2), draw(4, 1, 4, 4, 2)
    arguments = (x, kernel, bias, response, direction)
    every = [derivatives_of(*arguments, mode=mode) for mode in IN_WORDS]
    every += [derivatives_by_integer(*arguments, jnp.int32(mode_index(mode))) for mode in NUMPY]
    for value, (along_x, along_kernel, along_bias), curvature, slope in every:
        # The response is linear in map and kernel, so its slope along one is its value there.
        inner = np.sum(response * (np.float64(value) - bias))
        np.testing.assert_allclose(np.sum(along_x * x), inner, rtol=1e-4)
        np.testing.assert_allclose(np.sum(along_kernel * kernel), inner, rtol=1e-4)
        np.testing.assert_allclose(along_bias, response.sum((0, 1, 2)), rtol=1e-4)
        expected = np.sum(np.float64(slope) ** 2)
        np.testing.assert_allclose(np.sum(curvature * direction), expected, rtol=1e-4)


@pytest.mark.parametrize("mode", IN_WORDS)
def test_bfloat16_stays_bfloat16(mode):
    x, kernel = draw(0, 1, 4, 5, 2), draw(1, 3, 3, 2, 2)
    response = conv(jnp.asarray(x, "bfloat16"), jnp.asarray(kernel, "bfloat16"), mode=mode)
    assert response.dtype == "bfloat16"
    close(np.float32(response), np.float32(conv(x, kernel, mode=mode)), 0.02)
    pooled = max_pool(jnp.asarray(x, "bfloat16"), window=3, stride=2, padding=1, mode=mode)
    assert pooled.dtype == "bfloat16"


@pytest.mark.parametrize("mode", ["same", "lowest", ""])
def test_unknown_modes_are_refused(mode):
    with pytest.raises(ValueError, match=f"{mode!r} is unknown"):
        conv(draw(0, 1, 4, 4, 1), draw(1, 1, 1, 1, 1), mode=mode)
    with pytest.raises(ValueError, match="'highest' is unknown"):
        max_pool(draw(0, 1, 4, 4, 1), window=2, stride=2, mode="highest")


@pytest.mark.parametrize(
    ("k", "mode", "refused", "message", "smallest"),
    [
        (6, "valid", (6, 5), "6x6 .* 6x5$", (6, 6)),
        (7, "reflect", (3, 9), "height 4 or more, not 3", (4, 9)),
    ],
)
def test_conv_refuses_a_map_that_is_too_small(k, mode, refused, message, smallest):
    kernel = draw(1, k, k, 1, 1)
    with pytest.raises(InputTooSmall, match=message):
        conv(draw(0, 1, *refused, 1), kernel, mode=mode)
    assert min(conv(draw(0, 1, *smallest, 1), kernel, mode=mode).shape) == 1


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


@pytest.mark.parametrize("name", ["stem", "wide"])
def test_max_pool_under_a_mode_is_numpy_pad_and_maximum_by_word_and_by_integer(name):
    shape, options = POOLS[name]
    # All below zero, so that a padded zero is seen.
    x, sides = -1 - np.abs(draw(0, *shape)), (options["padding"],) * 2
    window = (options["window"],) * 2
    by_integer = jax.jit(functools.partial(max_pool, x, **options), compiler_options=QUICK)
    for mode in NUMPY:
        padded = numpy_pad(x, (sides, sides), mode)
        expected = windows(padded, window, options["stride"]).max((-2, -1))
        integer = jnp.int32(mode_index(mode))
        for pooled in max_pool(x, mode=mode, **options), by_integer(mode=integer):
            np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-6 * (mode == "mean"))


def test_max_pool_refuses_a_map_smaller_than_its_window():
    with pytest.raises(InputTooSmall, match=r"3x3 .* 2x4"):
        max_pool(draw(0, 1, 2, 4, 1), window=3, stride=2, mode="valid")
    with pytest.raises(InputTooSmall, match="2 or more, not 1"):
        max_pool(draw(0, 1, 1, 4, 1), window=3, stride=2, padding=1, mode="reflect")
