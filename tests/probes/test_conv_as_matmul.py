"""Convolution as a matrix product: XLA's convolution of resized maps, and its gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from posjax.layers import InputTooSmall, resize_bilinear
from posjax.probes.conv_as_matmul import conv_as_matmul


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def reference(maps, kernel, size, padding):
    """XLA's convolution of the maps, each resized and all concatenated."""
    x = jnp.concatenate([resize_bilinear(m, size, align_corners=True) for m in maps], axis=-1)
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )


@pytest.mark.parametrize(
    ("window", "padding", "sizes", "outputs"),
    [
        ((3, 3), 0, [(7, 6)], 1),
        ((3, 3), 1, [(7, 6), (2, 3), (2, 3)], 2),
        ((4, 1), 2, [(1, 5), (7, 6)], 3),
        ((1, 2), 0, [(4, 1), (1, 1), (3, 6)], 1),
    ],
    ids=str,
)
def test_it_is_a_convolution_of_the_resized_and_concatenated_maps(window, padding, sizes, outputs):
    size = (7, 6)
    maps = [draw(i, 2, *each, 3 + i) for i, each in enumerate(sizes)]
    kernel = draw(9, *window, sum(m.shape[-1] for m in maps), outputs)
    response = jax.jit(partial(conv_as_matmul, size=size, padding=padding))(maps, kernel)
    expected = jax.jit(partial(reference, size=size, padding=padding))(maps, kernel)
    np.testing.assert_allclose(response, expected, atol=2e-5)


def test_its_gradients_are_those_of_the_convolution():
    maps, kernel = [draw(0, 2, 6, 5, 3), draw(1, 2, 3, 3, 4)], draw(2, 3, 3, 7, 2)
    weight = draw(3, 2, 6, 5, 2)

    def gradients(convolve):
        return jax.jit(
            jax.grad(
                lambda m, k: jnp.sum(weight * convolve(m, k, size=(6, 5), padding=1)),
                argnums=(0, 1),
            )
        )(maps, kernel)

    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=5e-5),
        gradients(conv_as_matmul),
        gradients(reference),
    )


def test_maps_in_bfloat16_give_what_their_float32_gives_and_so_do_gradients():
    wide = [draw(0, 2, 6, 5, 64), draw(1, 2, 3, 3, 32)]
    stored = [jnp.asarray(m, jnp.bfloat16) for m in wide]
    kernel = draw(2, 3, 3, 96, 4)

    @jax.jit
    @jax.value_and_grad
    def loss(kernel, maps):
        return jnp.sum(jnp.sin(conv_as_matmul(maps, kernel, size=(6, 5))))

    values, expected = loss(kernel, stored), loss(kernel, [m.astype(jnp.float32) for m in stored])
    for one, other in zip(jax.tree.leaves(values), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * np.abs(other).max())


def test_many_kernels_on_one_map_are_one_product():
    x, kernels = draw(0, 2, 6, 5, 8), draw(1, 10, 3, 3, 8, 1)

    def respond(kernels):
        return jax.vmap(lambda k: conv_as_matmul([x], k, size=(6, 5)))(kernels)

    shapes = [
        equation.invars[1].aval.shape
        for equation in jax.make_jaxpr(respond)(kernels).eqns
        if equation.primitive is lax.dot_general_p
    ]
    assert sum(np.prod(shape) == kernels.size for shape in shapes) <= 1
    each = jnp.stack([conv_as_matmul([x], k, size=(6, 5)) for k in kernels])
    np.testing.assert_allclose(respond(kernels), each, atol=2e-5)


@pytest.mark.parametrize(("k", "padding"), [(6, 0), (8, 1)])
def test_a_kernel_that_does_not_fit_is_refused(k, padding):
    with pytest.raises(InputTooSmall, match=f"{k}x{k} kernel with padding {padding} .* 5x9"):
        conv_as_matmul([draw(0, 1, 5, 9, 2)], draw(1, k, k, 2, 1), size=(5, 9), padding=padding)
