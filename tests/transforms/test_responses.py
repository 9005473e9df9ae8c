"""Layers that pad give other responses where these are asked for, and their own elsewhere."""

import jax
import numpy as np
from jax import lax

from posjax.transforms import at_padded_layers, padded_layers, repad

X = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 3, 3)).astype(np.float32)


def two_layers(x):
    for name in ("first", "second"):
        with jax.named_scope(name):
            x = lax.conv_general_dilated(
                x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
    return x


def test_a_layer_gives_the_response_that_is_asked_for_and_others_their_own():
    seen = []

    def respond(layer, window):
        seen.append((layer, layer.size, window.kind))
        return window.padded_by("reflect") if layer == "second" else None

    result = jax.jit(at_padded_layers(two_layers, respond))(X)
    assert [name for name, *_ in seen] == padded_layers(two_layers, X) == ["first", "second"]
    assert {(size, kind) for _, size, kind in seen} == {((8, 8), "conv")}
    np.testing.assert_allclose(result, repad(two_layers, "zeros+second=reflect")(X), rtol=1e-5)
    assert np.abs(result - two_layers(X)).max() > 0.1


def test_another_mode_may_be_given_from_outside():
    changed = at_padded_layers(two_layers, lambda _, window: 2 * window.padded_by("zeros"))
    expected = 4 * repad(two_layers, "circular")(X)
    np.testing.assert_allclose(repad(changed, "circular")(X), expected, rtol=1e-4, atol=1e-4)
