"""Metrics: scipy's Spearman correlation and numpy's mean absolute error, per image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from posjax.probes import MAPS, constant_mae, mae, position_map, spc
from posjax.probes.metrics import rounding_of

SHAPE = (40, 56)


def scipys(prediction, target):
    return spearmanr(np.ravel(prediction), np.ravel(target)).statistic


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


PREDICTIONS = {
    "random": noise(*SHAPE),
    "like the target": position_map("G", SHAPE) + noise(*SHAPE) / 10,
    "negative": -1 - np.abs(noise(*SHAPE)),
    "tied": np.round(noise(*SHAPE), 1),
    "zeros of both signs": np.round(noise(*SHAPE) / 2),
    "two values": (noise(*SHAPE) > 0.5).astype(np.float32),
    "one pixel differs": np.eye(1, SHAPE[0] * SHAPE[1], 77).reshape(SHAPE),
    "tiny": noise(*SHAPE) * 1e-30,
    "huge": noise(*SHAPE) * 1e30,
    "all magnitudes": noise(*SHAPE) * np.float32(10) ** np.round(10 * noise(*SHAPE, seed=1)),
    "close to one": (1 + 1e-4 * noise(*SHAPE)).astype(np.float32),
}


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_spc_is_scipys(kind):
    prediction = PREDICTIONS[kind].astype(np.float32)
    for name in MAPS:
        target = position_map(name, SHAPE)
        np.testing.assert_allclose(spc(prediction, target), scipys(prediction, target), atol=1e-6)


def test_spc_is_scipys_on_maps_of_224_pixels():
    target = position_map("H", 224)
    prediction = target + noise(224, 224)
    np.testing.assert_allclose(spc(prediction, target), scipys(prediction, target), atol=1e-6)


@pytest.mark.parametrize("leading", [(), (3,), (2, 2)])
def test_one_value_for_each_image(leading):
    target = position_map("V", (6, 9))
    predictions = noise(*leading, 6, 9)
    flat = predictions.reshape(-1, 6, 9)
    for metric, reference in ((spc, scipys), (mae, lambda p, t: np.abs(p - t).mean())):
        actual = metric(predictions, target)
        assert actual.shape == leading
        expected = [reference(p, target) for p in flat]
        np.testing.assert_allclose(np.ravel(actual), expected, atol=1e-6)


@pytest.mark.parametrize(
    "prediction",
    [
        np.full(SHAPE, 0.3),
        np.zeros(SHAPE),
        np.full(SHAPE, -7.0),
        np.full(SHAPE, 1e-30),
        0.3 * (1 + 1e-6 * np.sign(noise(*SHAPE))),
        np.full(SHAPE, np.nan),
        np.where(np.arange(56) == 3, np.nan, noise(*SHAPE)),
    ],
    ids=["0.3", "0", "-7", "tiny", "rounding noise", "nan", "one column nan"],
)
def test_a_prediction_that_orders_nothing_has_no_spc(prediction):
    values = spc(np.stack([noise(*SHAPE), prediction]).astype(np.float32), position_map("H", SHAPE))
    assert np.isfinite(values[0])
    assert np.isnan(values[1])


def test_a_constant_target_has_no_spc():
    assert np.isnan(spc(noise(4, 5), np.full((4, 5), 0.5)))


def weak(strength):
    """A prediction of H that varies by `strength` of its largest value, in [0, 1]."""
    return (0.5 * (1 - strength * (1 - position_map("H", SHAPE)))).astype(np.float32)


@pytest.mark.parametrize("bits", [23, 7])
def test_what_is_constant_follows_the_arithmetic_of_the_features(bits):
    target, least = position_map("H", SHAPE), rounding_of(2.0**-bits)
    assert np.isnan(spc(weak(0.9 * least), target, least))
    np.testing.assert_allclose(spc(weak(1.1 * least), target, least), 1, atol=1e-6)
    # A signal of a hundredth counts in any of them.
    np.testing.assert_allclose(spc(weak(0.01), target, least), 1, atol=1e-6)


def test_one_step_of_bfloat16_orders_nothing_and_half_the_float32_threshold_does_not():
    target = position_map("H", SHAPE)
    one_step = np.where(noise(*SHAPE) > 0, 0.5, 0.5 + 2.0**-9).astype(np.float32)
    assert np.isfinite(spc(one_step, target))
    assert np.isnan(spc(one_step, target, rounding_of(2.0**-7)))
    assert rounding_of(2.0**-23) > 2.0**-14  # float32 keeps its threshold


def test_a_target_is_exact_however_coarse_the_features_are():
    faint = 0.5 + 1e-3 * position_map("H", SHAPE)
    np.testing.assert_allclose(spc(position_map("H", SHAPE), faint, 2.0**-7), 1, atol=1e-6)


@pytest.mark.parametrize("increasing", [np.exp, lambda p: 5 * p - 2])
def test_spc_knows_the_order_alone(increasing):
    target, prediction = position_map("G", SHAPE), np.round(noise(*SHAPE), 2)
    changed = increasing(prediction).astype(np.float32)
    np.testing.assert_allclose(spc(changed, target), spc(prediction, target), atol=1e-6)
    np.testing.assert_allclose(spc(-changed, target), -spc(prediction, target), atol=1e-6)


@pytest.mark.parametrize("metric", [spc, mae])
def test_metrics_can_be_jitted_and_mapped(metric):
    target, predictions = position_map("V", (6, 9)), noise(3, 6, 9)
    mapped = jax.jit(jax.vmap(metric, (0, None)))(jnp.asarray(predictions), target)
    np.testing.assert_allclose(mapped, metric(predictions, target), atol=1e-6)


def test_mae_is_in_the_unit_of_the_map():
    target = position_map("H", (4, 5))
    np.testing.assert_allclose(mae(target + 0.25, target), 0.25, rtol=1e-6)
    np.testing.assert_allclose(mae(-target, target), 1, rtol=1e-6)
    np.testing.assert_allclose(constant_mae(np.array([[0, 0, 0, 1.0]])), 0.25)
