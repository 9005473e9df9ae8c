"""Training: the released code's runs step by step, PyTorch's SGD, a loss without large maps."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posjax.probes import Readout, fit, mae, position_map, spc
from posjax.probes.trainer import (
    State,
    check_finite,
    optimizer,
    squared_error,
    step_decay,
    target_for,
    train_step,
)

DATA = Path(__file__).parent / "data"
TRAJECTORIES = {
    "hor_depth1": {},
    "gau_depth3": {"depth": 3},
    "ver_k7_pad2": {"kernel_size": 7, "padding": 2},
}


def make_stages(n, seed=0):
    draw = np.random.default_rng(seed).normal
    return {
        "f1": draw(size=(n, 8, 8, 2)).astype(np.float32),
        "f2": draw(size=(n, 4, 4, 3)).astype(np.float32),
    }


def small_readout(**options):
    return Readout(feature_size=(8, 8), map_size=(16, 16), **options)


@pytest.fixture(scope="module")
def small():
    """A readout, a batch of stages and variables."""
    readout, stages = small_readout(), make_stages(3)
    return readout, stages, jax.jit(readout.init)(jax.random.key(0), stages)


def assert_close(tree, expected, atol=1e-5):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), tree, expected)


def recorded_variables(arrays, when, depth):
    """A PyTorch state dict in the tree of a readout."""
    variables = {"params": {}, "batch_stats": {}}
    for layer in range(1, depth + 1):
        conv, norm = (f"{when}.output.{3 * layer - 3 + i}" for i in (0, 1))
        variables["params"][f"conv{layer}"] = {
            "kernel": np.einsum("oihw->hwio", arrays[f"{conv}.weight"]),
            "bias": arrays[f"{conv}.bias"],
        }
        variables["params"][f"norm{layer}"] = {
            "scale": arrays[f"{norm}.weight"],
            "bias": arrays[f"{norm}.bias"],
        }
        variables["batch_stats"][f"norm{layer}"] = {
            "mean": arrays[f"{norm}.running_mean"],
            "var": arrays[f"{norm}.running_var"],
        }
    return variables


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_a_whole_training_run_is_that_of_the_released_code(name):
    with np.load(DATA / f"trajectory_{name}.npz") as file:
        arrays = dict(file)
    readout = Readout(feature_size=(14, 14), map_size=(56, 56), **TRAJECTORIES[name])
    stages = {f"f{i}": arrays[f"feat{i}"] for i in (1, 2, 3)}
    before = recorded_variables(arrays, "init", readout.depth)
    variables, losses = fit(readout, before, [stages] * len(arrays["losses"]), arrays["target"])
    np.testing.assert_allclose(losses, arrays["losses"], atol=1e-5)
    assert_close(variables, recorded_variables(arrays, "final", readout.depth))
    predictions = jax.jit(readout.apply)(variables, stages)
    np.testing.assert_allclose(predictions, arrays["pred"], atol=1e-5)
    np.testing.assert_allclose(spc(predictions, arrays["target"]), arrays["spc"], atol=1e-5)
    np.testing.assert_allclose(mae(predictions, arrays["target"]), arrays["mae"], atol=1e-5)


def upsampling(source, target):
    """The matrix of a bilinear resize with align_corners=False, by numpy's interpolation."""
    at = (np.arange(target) + 0.5) * source / target - 0.5
    return np.stack([np.interp(at, np.arange(source), e) for e in np.eye(source)], axis=1)


@pytest.mark.parametrize(
    ("feature_size", "map_size"),
    [((12, 9), (31, 40)), ((14, 14), (10, 6)), ((3, 3), (8, 8))],
    ids=str,
)
def test_the_loss_and_its_gradient_are_those_at_the_map_s_size(feature_size, map_size):
    readout = Readout(feature_size=feature_size, map_size=map_size)
    rows, columns = (
        upsampling(low, high) for low, high in zip(readout.response_size, map_size, strict=True)
    )
    target = position_map("G", map_size)
    response = np.random.default_rng(0).uniform(size=(3, *readout.response_size))
    difference = rows @ response @ columns.T - target
    expected = np.mean(difference**2, axis=(1, 2))
    expected_gradient = 2 * rows.T @ difference @ columns / difference[0].size

    goal = target_for(readout, target)
    losses, pull_back = jax.vjp(
        jax.jit(lambda p: squared_error(readout, p, goal)), jnp.asarray(response, jnp.float32)
    )
    np.testing.assert_allclose(losses, expected, atol=1e-6)
    np.testing.assert_allclose(*pull_back(jnp.ones(3)), expected_gradient, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 15), (15, 16)])
def test_a_target_of_another_size_is_refused(shape):
    with pytest.raises(ValueError, match=rf"\({shape[0]}, {shape[1]}\).*\(16, 16\)"):
        fit(small_readout(), {"params": {}}, [], np.zeros(shape))


@pytest.mark.parametrize(("epochs", "steps", "whole"), [(15, 4, 10), (2, 5, 1), (1, 7, 1)])
def test_the_learning_rate_drops_to_a_tenth_after_two_thirds_of_the_epochs(epochs, steps, whole):
    rates = jax.vmap(step_decay(0.5, epochs, steps))(jnp.arange(epochs * steps))
    expected = [0.5] * (whole * steps) + [0.05] * ((epochs - whole) * steps)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_fit_takes_one_sgd_step_for_each_batch(small):
    readout, _, variables = small
    batches = [make_stages(3, seed) for seed in range(2)]
    rates = [0.3, 0.15]
    target = position_map("G", 16)
    before = jax.tree.map(np.array, variables)

    def loss_of(params, stats, stages):
        prediction, updated = readout.apply(
            {"params": params, "batch_stats": stats}, stages, train=True, mutable=["batch_stats"]
        )
        return jnp.mean((prediction - target) ** 2), updated["batch_stats"]

    params, stats = variables["params"], variables["batch_stats"]
    buffers = jax.tree.map(jnp.zeros_like, params)
    expected = []
    differentiate = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    for stages, rate in zip(batches, rates, strict=True):
        (loss, stats), gradients = differentiate(params, stats, stages)
        expected.append(loss)
        buffers = jax.tree.map(lambda b, g, p: 0.5 * b + g + 0.02 * p, buffers, gradients, params)
        params = jax.tree.map(lambda p, b, r=rate: p - r * b, params, buffers)

    schedule = optax.join_schedules([optax.constant_schedule(rate) for rate in rates], [1])
    options = {"learning_rate": schedule, "momentum": 0.5, "weight_decay": 0.02}
    fitted, losses = fit(readout, variables, batches, target, **options)
    assert losses.dtype == np.float32
    np.testing.assert_allclose(losses, expected, atol=1e-6)
    assert_close(fitted, {"params": params, "batch_stats": stats})
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_rows_with_mask_0_do_not_count():
    readout, stages = small_readout(depth=2, kernel_size=1), {"f2": make_stages(5)["f2"]}
    tx, goal = optimizer(), target_for(readout, position_map("V", 16))
    variables = jax.jit(readout.init)(jax.random.key(0), stages)
    state = State(variables, tx.init(variables["params"]))

    @jax.jit
    def step(stages, mask):
        return train_step(readout, tx, state, readout.align(stages), goal, mask)

    rows, mask = np.array([0, 3]), jnp.asarray([1.0, 0, 0, 1, 0])
    masked, masked_loss = step(stages, mask)
    expected, loss = step({"f2": stages["f2"][rows]}, jnp.ones(2))
    np.testing.assert_allclose(masked_loss, loss, rtol=1e-5)
    assert_close(masked, expected, atol=1e-6)


def test_a_learning_rate_that_is_too_high_is_named_with_the_step(small):
    readout, stages, variables = small
    with pytest.raises(FloatingPointError, match=r"step [1-5] with learning rate 1e\+30") as error:
        fit(readout, variables, [stages] * 6, position_map("H", 16), learning_rate=1e30)
    assert "Readout" in str(error.value)


def test_the_first_loss_that_is_not_finite_is_reported():
    losses = np.ones((4, 3))
    losses[3, 0], losses[2, 1], losses[2, 2] = np.nan, np.inf, np.nan
    check_finite(losses[:2], ["a", "b", "c"], 0.1)
    message = r"readout b is inf at step 12 with learning rate 0\.05"
    with pytest.raises(FloatingPointError, match=message):
        check_finite(losses, ["a", "b", "c"], step_decay(0.5, 3, 5), first_step=10)
