"""Steps of training: PyTorch's, and those of the whole batch on however many devices."""

import functools
from pathlib import Path
from unittest import mock

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import encoders
from posjax.encoders.weights.export import to_torch
from posjax import runtime
from posjax.runtime.compiler import compiler_options
from posjax.training.classification import Classification
from posjax.training.recipe import Recipe, optimizer
from posjax.training.steps import (
    State,
    evaluate_step,
    evaluation_view,
    train_step,
    training_view,
)

RECORDED = np.load(Path(__file__).parent / "data" / "steps.npz")
# Two steps up to the peak, four down: data/make_steps.py.
RECIPE = Recipe(
    epochs=6,
    warmup_epochs=2.0,
    learning_rate=0.1,
    schedule="one_cycle",
    weight_decay=5e-3,
    label_smoothing=0.1,
)

# Steps are few: optimising them would take longer than they do.
QUICK = {"xla_backend_optimization_level": 0}


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_steps_are_those_of_pytorch(mode, numbered):
    encoder = encoders.create("resnet20", mode, num_classes=10)
    tx = optimizer(RECIPE, 1)
    variables = numbered(encoder)
    state = State(variables, tx.init(variables["params"]))
    objective = Classification(encoder, RECIPE.label_smoothing)
    step = jax.jit(functools.partial(train_step, objective, tx))
    # In none of these batches rounding decides what passes a ReLU: data/make_steps.py.
    for number, seed in enumerate(RECORDED["seeds"]):
        images = np.random.default_rng(seed).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
        labels = np.random.default_rng(seed).integers(0, 10, 4).astype(np.int32)
        state, sums = step(state, images, labels, jax.random.key(0))
        # What rounding has changed grows from step to step.
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5 * 5**number)
        close(sums["loss"] / sums["count"], RECORDED[f"{mode}.{number}.loss"])
        found = sorted(to_torch("resnet20", state.variables).items())
        close(np.concatenate([some(array) for _, array in found]), RECORDED[f"{mode}.{number}"])


def some(array):
    """As in data/make_steps.py."""
    flat = array.ravel()
    return flat[:: max(len(flat) // 16, 1)][:16]


def quickly():
    """Steps on devices are compiled without optimising, by a JAX that takes options for them."""
    options = QUICK if compiler_options("cpu") else {}
    return mock.patch("posjax.runtime.devices.compiler_options", return_value=options)


def toy():
    """A small ResNet, a batch of eight images, and a state to start from."""
    encoder = encoders.create("resnet20", "reflect", num_classes=3).clone(blocks=(1, 1, 1))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    labels = rng.integers(0, 3, 8).astype(np.int32)
    variables = jax.device_get(jax.jit(encoder.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    tx = optimizer(RECIPE, 4)
    return encoder, tx, State(variables, tx.init(variables["params"])), images, labels


def step_on(count):
    encoder, tx, state, images, labels = toy()
    devices = jax.devices()[:count]

    def step(state, images, labels):
        how = (jax.random.key(7), 4, (0.5, 0.25), runtime.BATCH_AXIS)
        seen, labels = training_view(images, labels, *how)
        objective = Classification(encoder, 0.1)
        found = train_step(objective, tx, state, seen, labels, jax.random.key(0), runtime.BATCH_AXIS)
        return *found, seen

    (images, labels), _ = runtime.shard_batch((images, labels), 8, devices)
    with quickly():
        mapped = runtime.pmap(step, devices)
    found = mapped(runtime.replicate(state, devices), images, labels)
    return runtime.unreplicate(found[:2]), runtime.unshard(found[2], 8)


@pytest.fixture(scope="module")
def on_one():
    return step_on(1)


def test_many_devices_take_the_step_of_one(on_one):
    (state, sums), seen = step_on(8)
    (expected, of_one), same = on_one
    np.testing.assert_array_equal(seen, same)
    assert (sums["accuracy"], sums["count"]) == (of_one["accuracy"], 8)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        state.variables,
        expected.variables,
    )


@pytest.mark.parametrize("count", [1, 8])
def test_masks_are_cut_out_and_mirrored_with_their_images(count):
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    devices = jax.devices()[:count]

    def view(images, masks):
        return training_view(images, masks, jax.random.key(7), 4, (0.0, 1.0), runtime.BATCH_AXIS)

    shards, _ = runtime.shard_batch((images, images[..., 0]), 8, devices)
    with quickly():
        seen, masks = runtime.unshard(runtime.pmap(view, devices)(*shards), 8)
    assert masks.shape == (8, 8, 8)
    np.testing.assert_array_equal(np.rint(seen[..., 0] * 255), masks)
    assert len({tuple(mask[0]) for mask in masks}) == 8
    central, middle = evaluation_view(
        jnp.asarray(images), jnp.asarray(images[..., 0]), 4, (0.0, 1.0)
    )
    np.testing.assert_array_equal(middle, images[:, 2:-2, 2:-2, 0])
    np.testing.assert_array_equal(np.rint(central[..., 0] * 255), middle)


def test_evaluation_measures_every_image():
    encoder, _, state, images, labels = toy()
    seen = jnp.asarray(images / 255, jnp.float32)
    logits = np.asarray(encoder.apply(state.variables, seen, method="logits"), np.float64)
    objective = Classification(encoder, 0.1)
    found = evaluate_step(objective, state.variables, seen, jnp.asarray(labels))
    right = np.argmax(logits, axis=1) == labels
    np.testing.assert_array_equal(found["accuracy"], right)
    likely = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), labels]
    np.testing.assert_allclose(found["loss"], likely, atol=1e-5)
    summary = objective.summary(jax.device_get(found))
    assert (summary["correct"], summary["count"]) == (right.sum(), 8)


def test_batch_statistics_move_and_bfloat16_keeps_parameters_wide():
    encoder, tx, state, images, labels = toy()
    narrow = encoder.clone(dtype=jnp.bfloat16)
    seen = jnp.asarray(images / 255, jnp.float32)
    step = jax.jit(
        functools.partial(train_step, Classification(narrow), tx), compiler_options=QUICK
    )
    moved, sums = step(state, seen, jnp.asarray(labels), jax.random.key(0))
    assert np.isfinite(sums["loss"])
    for path, leaf in flax.traverse_util.flatten_dict(moved.variables).items():
        assert leaf.dtype == jnp.float32
        before = flax.traverse_util.flatten_dict(state.variables)[path]
        assert np.any(leaf != before), path
