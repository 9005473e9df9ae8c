"""Gradients of convolutions: finite differences, and those of the plain convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from posjax.layers import MODES, conv, pad
from posjax.layers.gradients import kernel_gradient


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 2)])
def test_gradients_are_finite_differences_under_every_mode(mode, size, stride):
    x, kernel, bias = draw(2, 9, 8, 3), draw(size, size, 3, 2, seed=1), draw(2, seed=2)

    def response(x, kernel, bias):
        return conv(x, kernel, bias, stride=stride, mode=mode)

    # Bilinear: a wide central difference is exact, and leaves rounding behind.
    arguments = (x, kernel, bias)
    check_grads(jax.jit(response), arguments, 1, modes=["rev"], eps=1.0, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_gradients_through_many_channels_are_those_of_the_plain_convolution(mode):
    x, kernel, dy = draw(2, 14, 15, 128), 0.1 * draw(3, 3, 128, 128, seed=1), draw(2, 14, 15, 128)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            pad(x, ((1, 1), (1, 1)), mode),
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    found, expected = (
        jax.jit(lambda x, kernel, f=f: jax.vjp(f, x, kernel)[1](dy))(x, kernel)
        for f in (functools.partial(conv, mode=mode), plain)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("n", [1, 7, 24])
@pytest.mark.parametrize(("stride", "widths"), [(1, ((1, 1), (1, 1))), (2, ((2, 0), (1, 3)))])
def test_the_sum_over_blocks_of_images_is_numpys(n, stride, widths, monkeypatch):
    monkeypatch.setattr("posjax.layers.gradients._BLOCK", 40_000)
    x = draw(n, 11, 10, 5)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *widths, (0, 0)))
    height, width = ((s - 3) // stride + 1 for s in padded.shape[1:3])
    dy = draw(n, height, width, 4, seed=1)
    expected = np.empty((3, 3, 5, 4))
    for i in range(3):
        for j in range(3):
            rows = slice(i, i + (height - 1) * stride + 1, stride)
            columns = slice(j, j + (width - 1) * stride + 1, stride)
            expected[i, j] = np.einsum("nhwc,nhwd->cd", padded[:, rows, columns], dy)
    found = kernel_gradient(x, dy, (3, 3), stride, widths)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_maps_of_one_pixel_and_no_images_have_gradients():
    x, kernel = draw(3, 1, 1, 4), draw(1, 1, 4, 2, seed=1)
    dy = draw(3, 1, 1, 2, seed=2)
    found = kernel_gradient(x, dy, (1, 1), 2, ((0, 0), (0, 0)))
    expected = np.einsum("nhwc,nhwd->cd", x, dy)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5)
    assert not np.any(kernel_gradient(x[:0], dy[:0], (1, 1), 2, ((0, 0), (0, 0))))
    assert kernel.shape == found.shape


def test_half_precision_sums_in_float32():
    x, dy = (draw(64, 8, 8, 4, seed=s).astype(jnp.bfloat16) for s in (0, 1))
    widths = ((1, 1), (1, 1))
    found = kernel_gradient(x, dy, (3, 3), 1, widths)
    wide = kernel_gradient(x.astype("f4"), dy.astype("f4"), (3, 3), 1, widths)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype("f4"), wide, atol=0.01 * np.abs(wide).max())
