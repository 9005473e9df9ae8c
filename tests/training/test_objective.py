"""Steps of training are PyTorch's, and evaluation sees every image as it is."""

import functools
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import encoders, runtime
from posjax.encoders.weights.export import to_torch
from posjax.runtime.compiler import compiler_options
from posjax.training import OptimizerSettings, State, optimizer, train_step
from posjax.training.classification import CrossEntropy
from posjax.training.objective import evaluation_step, network_step

RECORDED = np.load(Path(__file__).parent / "data" / "steps.npz")
# Two steps up to the peak, four down: data/make_steps.py.
SETTINGS = OptimizerSettings(
    epochs=6, warmup_epochs=2.0, learning_rate=0.1, weight_decay=5e-3, label_smoothing=0.1
)
# Steps are few: optimising them would take longer than they do.
QUICK = {"xla_backend_optimization_level": 0}


def begin(numbered, mode="reflect", **changes):
    """The step of a ResNet-20 under a padding mode, and the state before it."""
    encoder = encoders.create("resnet20", mode, num_classes=10).clone(**changes)
    tx, variables = optimizer(SETTINGS, 1), numbered(encoder)
    objective = CrossEntropy(encoder, SETTINGS.label_smoothing)
    state = State(variables, tx.init(variables["params"]))
    return functools.partial(train_step, objective, tx), state


def batch(seed):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    return images, np.random.default_rng(seed).integers(0, 10, 4).astype(np.int32)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_steps_are_those_of_pytorch(mode, numbered):
    step, state = begin(numbered, mode)
    step = jax.jit(step, compiler_options=QUICK)
    # In none of these batches rounding decides what passes a ReLU: data/make_steps.py.
    for number, seed in enumerate(RECORDED["seeds"]):
        state, sums = step(state, *batch(seed), jax.random.key(0))
        # What rounding has changed grows from step to step.
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5 * 5**number)
        close(sums["loss"] / sums["count"], RECORDED[f"{mode}.{number}.loss"])
        arrays = [array for _, array in sorted(to_torch("resnet20", state.variables).items())]
        close(np.concatenate([some(array) for array in arrays]), RECORDED[f"{mode}.{number}"])


def some(array):
    """As in data/make_steps.py."""
    flat = array.ravel()
    return flat[:: max(len(flat) // 16, 1)][:16]


def test_eight_devices_train_as_one_does(numbered):
    encoder = encoders.create("resnet20", "zeros", num_classes=10).clone(blocks=(1,))
    quick = QUICK if compiler_options("cpu") else {}
    tx, variables = optimizer(SETTINGS, 1), numbered(encoder)
    rng, ends = np.random.default_rng(0), []
    images = rng.integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, 8).astype(np.int32)
    step = network_step(CrossEntropy(encoder, 0.1), tx, 4, "none")
    for count in (1, 8):
        devices = jax.devices()[:count]
        with mock.patch("posjax.runtime.devices.compiler_options", return_value=quick):
            take_step = runtime.pmap(step, devices)
        shards, _ = runtime.shard_batch((images, labels), 8, devices)
        sums = {name: np.float32(0) for name in ("loss", "accuracy", "count")}
        state = runtime.replicate((State(variables, tx.init(variables["params"])), sums), devices)
        for number in range(2):
            drawn = runtime.replicate((np.uint32(3), np.uint32(number)), devices)
            state = take_step(*state, *shards, *drawn)
        ends.append(runtime.unreplicate((state[0].variables, state[1])))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5), *ends)


def test_a_step_in_bfloat16_keeps_parameters_and_statistics_in_float32(numbered):
    step, state = begin(numbered, dtype=jnp.bfloat16)
    moved, sums = jax.eval_shape(step, state, *batch(0), jax.random.key(0))
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert shapes(moved) == shapes(state)
    assert sums["loss"].dtype == jnp.float32


class Sums(nn.Module):
    """As many times the sum of an image's pixels as the number of the class."""

    @nn.compact
    def logits(self, images, *, train=False):
        assert not train
        return jnp.sum(images, axis=(1, 2, 3))[:, None] * jnp.arange(3, dtype=jnp.float32)


def test_evaluation_measures_middle_windows_without_label_smoothing():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 5, (8, 7, 7, 3)).astype(np.uint8)
    labels = rng.integers(0, 3, 8).astype(np.int32)
    objective = CrossEntropy(Sums(), 0.1)
    measured = evaluation_step(objective, 4, "none")({}, jnp.asarray(images), jnp.asarray(labels))
    logits = (images[:, 2:-2, 2:-2] / 255).sum(axis=(1, 2, 3))[:, None] * np.arange(3.0)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), labels]
    np.testing.assert_allclose(measured["loss"], expected, rtol=1e-5)
    np.testing.assert_array_equal(measured["accuracy"], labels == 2)
