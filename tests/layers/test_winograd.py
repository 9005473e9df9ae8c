"""Winograd's convolution against the direct sum, in float64 and bit for bit."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import conv64

from posjax.layers import MODES, conv
from posjax.layers.conv import conv_widths
from posjax.layers.winograd import suits_winograd, winograd

NUMPY = {
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}


def direct(x, kernel, mode):
    if mode != "valid":
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=NUMPY.get(mode, "constant"))
    return conv64(x, kernel)


@settings(max_examples=24, deadline=None)
@given(
    n=st.integers(1, 3),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 99),
)
def test_equals_the_direct_sum_for_odd_and_even_maps(n, size, channels, mode, seed):
    draw = np.random.default_rng(seed).normal
    x = draw(size=(n, *size, channels[0])).astype(np.float32)
    kernel = draw(size=(3, 3, *channels)).astype(np.float32)
    widths = conv_widths((3, 3), mode)
    y = jax.jit(lambda x, kernel: winograd(x, kernel, widths, mode))(x, kernel)
    np.testing.assert_allclose(y, direct(x, kernel, mode), atol=2e-5)


# The number of images that go through at once does not divide that of the images.
def test_more_images_than_go_through_at_once():
    draw = np.random.default_rng(0).normal
    x = draw(size=(3, 60, 50, 2)).astype(np.float32)
    kernel = draw(size=(3, 3, 2, 3)).astype(np.float32)
    y = winograd(x, kernel, ((1, 1), (1, 1)), "reflect")
    np.testing.assert_allclose(y, direct(x, kernel, "reflect"), atol=2e-5)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "symmetric", "valid"])
def test_one_colour_gives_one_response_bit_for_bit(mode):
    draw = np.random.default_rng(1).normal
    x = np.broadcast_to(draw(size=128).astype(np.float32), (2, 15, 18, 128))
    kernel = draw(size=(3, 3, 128, 130)).astype(np.float32)
    assert suits_winograd((15, 18), kernel.shape)
    y = np.asarray(jax.jit(lambda x: conv(x, kernel, mode=mode))(x))
    assert (y == y[:, :1, :1]).all()


@pytest.mark.parametrize("mode", MODES)
def test_the_convolution_that_uses_it_equals_the_direct_sum(mode):
    draw = np.random.default_rng(2).normal
    x = draw(size=(2, 14, 17, 128)).astype(np.float32)
    kernel = draw(size=(3, 3, 128, 128)).astype(np.float32) / 34
    y = np.asarray(jax.jit(lambda x: conv(x, kernel, mode=mode))(x))
    expected = direct(x, kernel, mode)
    if mode == "partial":
        inside = direct(np.ones((1, 14, 17, 1)), np.ones((3, 3, 1, 1)), "zeros")
        expected = expected * 9 / inside
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_gradients_are_those_of_the_direct_convolution():
    draw = np.random.default_rng(3).normal
    x = draw(size=(2, 6, 7, 4)).astype(np.float32)
    kernel, weight = (draw(size=s).astype(np.float32) for s in ((3, 3, 4, 5), (2, 6, 7, 5)))
    widths = ((1, 1), (1, 1))

    def fast(x, k):
        return (winograd(x, k, widths, "reflect") * weight).sum()

    def plain(x, k):
        return (conv(x, k, mode="reflect") * weight).sum()

    found, expected = (jax.grad(f, argnums=(0, 1))(x, kernel) for f in (fast, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
