"""Winograd's convolution against the direct sum, in float64 and bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from reference import conv64

from posjax.layers.winograd import winograd


def direct(x, kernel, widths):
    return conv64(np.pad(x, ((0, 0), *widths, (0, 0))), kernel)


@settings(max_examples=24, deadline=None)
@given(
    n=st.integers(1, 3),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    widths=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    seed=st.integers(0, 99),
)
def test_equals_the_direct_sum_for_odd_and_even_maps(n, size, channels, widths, seed):
    draw = np.random.default_rng(seed).normal
    x = draw(size=(n, *size, channels[0])).astype(np.float32)
    kernel = draw(size=(3, 3, *channels)).astype(np.float32)
    y = jax.jit(winograd, static_argnums=2)(x, kernel, widths)
    np.testing.assert_allclose(y, direct(x, kernel, widths), atol=2e-5)


# The number of images that go through at once does not divide that of the images.
def test_more_images_than_go_through_at_once():
    draw = np.random.default_rng(0).normal
    x = draw(size=(3, 60, 50, 2)).astype(np.float32)
    kernel = draw(size=(3, 3, 2, 3)).astype(np.float32)
    y = winograd(x, kernel, ((1, 1), (1, 1)))
    np.testing.assert_allclose(y, direct(x, kernel, ((1, 1), (1, 1))), atol=2e-5)


def test_one_colour_gives_one_response_bit_for_bit():
    draw = np.random.default_rng(1).normal
    x = np.broadcast_to(draw(size=128).astype(np.float32), (2, 17, 20, 128))
    kernel = draw(size=(3, 3, 128, 130)).astype(np.float32)
    y = np.asarray(jax.jit(winograd, static_argnums=2)(x, kernel, ((0, 0), (0, 0))))
    assert (y == y[:, :1, :1]).all()


def test_gradients_are_those_of_the_direct_convolution():
    draw = np.random.default_rng(3).normal
    x = draw(size=(2, 6, 7, 4)).astype(np.float32)
    kernel, weight = (draw(size=s).astype(np.float32) for s in ((3, 3, 4, 5), (2, 6, 7, 5)))
    widths = ((1, 1), (1, 1))

    def fast(x, k):
        return (winograd(x, k, widths) * weight).sum()

    def plain(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, k, (1, 1), widths, dimension_numbers=numbers)
        return jnp.sum(y * weight)

    found, expected = (jax.grad(f, argnums=(0, 1))(x, kernel) for f in (fast, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
