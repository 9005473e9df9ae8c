"""The encoder's way on a CPU: Winograd where it suits, and always the same numbers."""

import jax
import numpy as np
import pytest
from jax import lax

from posjax.encoders import quick_on_cpu
from posjax.encoders.vgg import VGG
from posjax.layers import conv

QUICK = {"xla_backend_optimization_level": 0}


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def products(fn, *args):
    """The numbers of convolutions and of matrix products that a function computes."""
    text = str(jax.make_jaxpr(fn)(*args))
    return text.count("conv_general_dilated["), text.count("dot_general[")


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_a_convolution_of_many_channels_becomes_winograd_with_the_same_responses(mode):
    x, kernel, bias = draw(0, 2, 16, 17, 128), draw(1, 3, 3, 128, 128) / 34, draw(2, 128)

    def layer(x):
        return jax.nn.relu(conv(x, kernel, bias, mode=mode))

    assert products(layer, x) == (1, 0)
    assert products(quick_on_cpu(layer), x)[0] == 0
    quick, expected = (jax.jit(f, compiler_options=QUICK)(x) for f in (quick_on_cpu(layer), layer))
    np.testing.assert_allclose(quick, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "kernel", "options", "dtype"),
    [
        ((1, 16, 16, 64), (3, 3, 64, 128), {}, "float32"),
        ((1, 16, 16, 128), (5, 5, 128, 128), {}, "float32"),
        ((1, 16, 16, 128), (1, 1, 128, 128), {}, "float32"),
        ((1, 7, 7, 128), (3, 3, 128, 128), {}, "float32"),
        ((1, 16, 16, 128), (3, 3, 128, 128), {"window_strides": (2, 2)}, "float32"),
        ((1, 16, 16, 128), (3, 3, 128, 128), {"rhs_dilation": (2, 2)}, "float32"),
        ((1, 16, 16, 256), (3, 3, 128, 128), {"feature_group_count": 2}, "float32"),
        ((1, 16, 16, 128), (3, 3, 128, 128), {}, "bfloat16"),
    ],
)
def test_every_other_convolution_stays_as_it_is(shape, kernel, options, dtype):
    settings = {"window_strides": (1, 1), "padding": "VALID"} | options
    numbers = ("NHWC", "HWIO", "NHWC")

    def layer(x, kernel):
        return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **settings)

    arguments = [jax.ShapeDtypeStruct(s, dtype) for s in (shape, kernel)]
    plain, quick = (str(jax.make_jaxpr(f)(*arguments)) for f in (layer, quick_on_cpu(layer)))
    assert plain == quick


def test_a_kernel_larger_than_its_map_pads_the_map_and_gives_the_same():
    x, kernel = draw(0, 2, 2, 2, 16), draw(1, 3, 3, 16, 8)

    def layer(x):
        return conv(x, kernel, stride=2)

    assert "padding=((0, 0), (0, 0))" in str(jax.make_jaxpr(quick_on_cpu(layer))(x))
    assert "padding=((1, 1), (1, 1))" in str(jax.make_jaxpr(layer)(x))
    np.testing.assert_allclose(quick_on_cpu(layer)(x), layer(x), atol=1e-5)


def test_a_whole_encoder_keeps_its_stages(numbered):
    module = VGG(depth=8, padding="circular")
    variables, x = numbered(module), draw(0, 1, 64, 64, 3)
    assert products(quick_on_cpu(module.apply), variables, x) == (4, 16)
    quick, plain = (
        jax.jit(f, compiler_options=QUICK)(variables, x)
        for f in (quick_on_cpu(module.apply), module.apply)
    )
    for stage, expected in plain.items():
        np.testing.assert_allclose(quick[stage], expected, atol=1e-5 * np.std(expected))
