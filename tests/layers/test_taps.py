"""Convolution by taps: the float64 sum, XLA's convolution, and exact gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import close, conv64, draw

from posjax.layers import (
    InputTooSmall,
    conv_taps,
    interpolation_matrix,
    sum_taps,
    tap_responses,
)

few = settings(max_examples=6, deadline=None)
kernel_sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))
QUICK = {"xla_backend_optimization_level": 0}  # Each shape is compiled for one call.
jitted_taps = jax.jit(conv_taps, static_argnames="padding", compiler_options=QUICK)


@few
@given(
    kernel_size=kernel_sizes,
    padding=st.integers(0, 3),
    outputs=st.sampled_from([1, 3, 4, 9]),
)
def test_conv_taps_is_a_zero_padded_convolution(kernel_size, padding, outputs):
    # Fewer outputs than the four inputs, as many, and more.
    x, kernel = draw(0, 2, 5, 6, 4), draw(1, *kernel_size, 4, outputs)
    sides = (padding, padding)
    padded = np.pad(x, ((0, 0), sides, sides, (0, 0)))
    expected = conv64(padded, kernel)
    found = jitted_taps(x, kernel, padding=padding)
    close(found, expected)


@pytest.mark.parametrize(("outputs", "padding"), [(1, 0), (6, 2)])
def test_conv_taps_equals_lax_conv_and_its_gradients(outputs, padding):
    x, kernel = draw(0, 2, 6, 7, 4), draw(1, 3, 3, 4, outputs)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found, pull = jax.vjp(lambda *args: conv_taps(*args, padding=padding), x, kernel)
    expected, pull_reference = jax.vjp(reference, x, kernel)
    close(found, expected)
    response = jnp.asarray(draw(2, *found.shape))
    for one, other in zip(pull(response), pull_reference(response), strict=True):
        close(one, other)


@pytest.mark.parametrize("outputs", [1, 6])
def test_gradients_of_conv_taps_are_its_finite_differences(outputs):
    x, kernel = draw(0, 1, 4, 5, 3), draw(1, 3, 2, 3, outputs)
    response = draw(2, 1, 4, 6, outputs)

    def loss(x, kernel):
        return jnp.sum(response * jnp.sin(conv_taps(x, kernel, padding=1)))

    def loss64(x, kernel):
        padded = np.pad(np.float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
        return np.sum(response * np.sin(conv64(padded, kernel)))

    along_x, along_kernel = draw(3, *x.shape), draw(4, *kernel.shape)
    gradient_x, gradient_kernel = jax.grad(loss, argnums=(0, 1))(x, kernel)
    step = 1e-5
    slope_x = loss64(x + step * np.float64(along_x), kernel)
    slope_x = (slope_x - loss64(x - step * np.float64(along_x), kernel)) / (2 * step)
    slope_kernel = loss64(x, kernel + step * np.float64(along_kernel))
    slope_kernel -= loss64(x, kernel - step * np.float64(along_kernel))
    slope_kernel /= 2 * step
    np.testing.assert_allclose(np.sum(gradient_x * along_x), slope_x, rtol=1e-4)
    np.testing.assert_allclose(np.sum(gradient_kernel * along_kernel), slope_kernel, rtol=1e-4)


@few
@given(k=st.integers(4, 6), padding=st.integers(0, 1), outputs=st.sampled_from([1, 3]))
def test_conv_taps_refuses_a_kernel_that_does_not_fit(k, padding, outputs):
    smallest = k - 2 * padding
    kernel = jnp.zeros((k, k, 2, outputs))

    def shape(height, width):
        x = jnp.zeros((1, height, width, 2))
        return jax.eval_shape(lambda *args: conv_taps(*args, padding=padding), x, kernel).shape

    assert shape(smallest, smallest) == (1, 1, 1, outputs)
    for height, width in ((smallest - 1, 7), (7, smallest - 1)):
        with pytest.raises(InputTooSmall, match=f"{k}x{k} .*{padding} .* {height}x{width}"):
            shape(height, width)


@pytest.mark.parametrize(("size", "padding"), [((9, 8), 0), ((5, 11), 1), ((4, 6), 2)])
def test_the_sum_of_taps_is_the_convolution_of_the_resized_map(size, padding):
    x, kernel = draw(0, 2, 5, 6, 4), draw(1, 3, 2, 4, 2)
    rows, columns = (interpolation_matrix(a, b, True) for a, b in zip((5, 6), size, strict=True))
    resized = np.einsum("yh,xw,nhwc->nyxc", rows, columns, x)
    sides = (padding, padding)
    expected = conv64(np.pad(resized, ((0, 0), sides, sides, (0, 0))), kernel)
    close(sum_taps(tap_responses(x, kernel), size, padding=padding), expected)


def test_many_channels_take_the_faster_way_with_the_same_result_and_gradients():
    x, kernel = draw(0, 2, 16, 14, 128), draw(1, 3, 3, 128, 128)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found, pull = jax.vjp(jax.jit(conv_taps), x, kernel)
    expected, pull_reference = jax.vjp(reference, x, kernel)
    close(found, expected)
    response = jnp.asarray(draw(2, *found.shape))
    for one, other in zip(pull(response), pull_reference(response), strict=True):
        close(one, other)
