"""Silenced channels say the same everywhere; all others are as they were."""

import jax
import numpy as np
import pytest

from posjax.encoders import frozen
from posjax.ppp.silenced import draw_alike, silenced

IMAGES = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
FIRST = "VGG/VGG.stages/features_0"


@pytest.fixture(scope="module", params=["zeros", "reflect", "partial"])
def encoder(request):
    return frozen("vgg8_bn_quarter", padding=request.param)


@pytest.fixture(scope="module")
def means():
    rng = np.random.default_rng(1)
    sizes = {FIRST: 16, "VGG/VGG.stages/features_4": 32}
    return {layer: rng.normal(size=size).astype(np.float32) for layer, size in sizes.items()}


def stages(encoder):
    return jax.jit(encoder.apply)(encoder.variables, IMAGES)


def test_where_none_is_silenced_nothing_changes(encoder, means):
    (same,) = silenced(encoder, [{}], means, 32)
    assert (same.padding_text, same.weights, same.seed) == (encoder.padding_text, "random", 0)
    for name, stage in stages(same).items():
        np.testing.assert_allclose(stage, stages(encoder)[name], atol=1e-4)


def test_silenced_channels_are_constant_and_the_others_of_their_layer_as_they_were(encoder, means):
    (less,) = map(stages, silenced(encoder, [{FIRST: (2, 7)}], means, 32))
    whole = stages(encoder)
    constant = np.ptp(less["f1"], axis=(0, 1, 2)) == 0
    assert np.flatnonzero(constant).tolist() == [2, 7]
    np.testing.assert_allclose(less["f1"][..., ~constant], whole["f1"][..., ~constant], atol=1e-5)
    assert np.abs(less["f2"] - whole["f2"]).max() > 1e-2
    # At their mean: BatchNorm's statistics are 0 and 1, biases 0, in random weights.
    expected = np.maximum(means[FIRST][[2, 7]], 0)
    np.testing.assert_allclose(less["f1"][0, 0, 0, [2, 7]], expected, atol=1e-4)


def test_what_is_silenced_is_data(encoder, means):
    one, other = silenced(encoder, [{FIRST: (1,)}, {FIRST: (2,)}], means, 32)
    assert one.network == other.network
    assert hash(one.network) == hash(other.network)
    assert one.fingerprint() != other.fingerprint()


def test_as_many_others_of_the_same_layers_are_drawn():
    chosen, sizes = {"a": (0, 5, 9), "b": (1,)}, {"a": 16, "b": 2, "c": 8}
    draws = [draw_alike(chosen, sizes, seed) for seed in range(20)]
    for drawn in draws:
        assert {layer: len(set(channels)) for layer, channels in drawn.items()} == {"a": 3, "b": 1}
        assert not set(drawn["a"]) & {0, 5, 9}
        assert drawn["b"] == (0,)
    assert {channel for drawn in draws for channel in drawn["a"]} == set(range(16)) - {0, 5, 9}
    assert draws[3] == draw_alike(chosen, sizes, 3) != draws[4]
    # Where too few others are there, chosen ones fill up.
    assert draw_alike({"b": (0, 1)}, sizes, 0) == {"b": (0, 1)}
