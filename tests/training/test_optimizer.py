"""Learning rates and weight decay of training encoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.training.optimizer import optimizer, schedule
from posjax.training.settings import OptimizerSettings


def rates(**changes):
    values = {"epochs": 5, "warmup_epochs": 2.0, "learning_rate": 0.4} | changes
    rate = schedule(OptimizerSettings(**values), 10)
    return np.array([float(rate(step)) for step in range(51)])


@pytest.mark.parametrize("kind", ["one_cycle", "cosine"])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing_at_the_end(kind):
    actual = rates(schedule=kind)
    np.testing.assert_allclose(actual[:20], 0.4 * np.arange(1, 21) / 20, rtol=1e-6)
    part = np.arange(31) / 30
    fall = 1 - part if kind == "one_cycle" else (1 + np.cos(np.pi * part)) / 2
    np.testing.assert_allclose(actual[20:], 0.4 * fall, atol=1e-7)


def test_without_warm_up_the_learning_rate_starts_at_its_peak():
    assert rates(warmup_epochs=0.0)[0] == pytest.approx(0.4)


def test_a_warm_up_that_takes_all_steps_is_refused():
    with pytest.raises(ValueError, match=r"^warmup_epochs=0.9 leaves none of the 1 steps"):
        schedule(OptimizerSettings(epochs=1, warmup_epochs=0.9), 1)


def test_weight_decay_changes_kernels_alone():
    params = {"conv1": {"kernel": jnp.ones(3)}, "bn1": {"scale": jnp.ones(3), "bias": jnp.ones(3)}}
    values = {"epochs": 2, "warmup_epochs": 0.0, "momentum": 0.0, "weight_decay": 0.5}
    tx = optimizer(OptimizerSettings(**values), 10)
    changes, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(changes["conv1"]["kernel"], -0.1 * 0.5, rtol=1e-6)
    assert not np.any(changes["bn1"]["scale"])
    assert not np.any(changes["bn1"]["bias"])
