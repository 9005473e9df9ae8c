"""The mode of each layer from a word or a function, and a convolution that knows its mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posjax.encoders.blocks import Conv, mode_at
from posjax.layers import MODES

few = settings(max_examples=20, deadline=None)


@few
@given(mode=st.sampled_from(MODES), layer=st.text(max_size=10))
def test_a_word_holds_for_every_layer_and_a_function_is_asked_for_each(mode, layer):
    asked = []
    assert mode_at(mode, layer) == mode
    assert mode_at(lambda name: asked.append(name) or mode, layer) == mode
    assert asked == [layer]


@few
@given(
    answer=st.one_of(st.none(), st.integers(), st.booleans(), st.lists(st.integers(), max_size=2))
)
def test_an_answer_that_is_no_word_is_refused_with_the_layer_named(answer):
    with pytest.raises(ValueError, match=r"for layer layer1\.0\.conv1") as caught:
        mode_at(lambda name: answer, "layer1.0.conv1")
    assert repr(answer) in str(caught.value)


@few
@given(answer=st.text(max_size=6).filter(lambda word: word not in MODES))
def test_an_answer_that_is_no_mode_is_refused_with_the_layer_named(answer):
    with pytest.raises(ValueError, match=r"for layer features\.3") as caught:
        mode_at(lambda name: answer, "features.3")
    assert repr(answer) in str(caught.value)


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
    kernel = Conv(512, 3).init(jax.random.key(0), np.zeros((1, 4, 4, 64), np.float32))["params"]
    kernel = kernel["kernel"]
    assert abs(np.mean(kernel)) < 1e-3
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 512)), rtol=0.01)
