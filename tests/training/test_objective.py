"""Steps of training: PyTorch's, and those of the whole batch on however many devices."""

import functools
from pathlib import Path
from unittest import mock

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import encoders, runtime
from posjax.encoders.weights.export import to_torch
from posjax.runtime.compiler import compiler_options
from posjax.training import OptimizerSettings, State, optimizer, train_step
from posjax.training.classification import CrossEntropy
from posjax.training.objective import evaluate_step, evaluation_view, training_view

RECORDED = np.load(Path(__file__).parent / "data" / "steps.npz")
# Two steps up to the peak, four down: data/make_steps.py.
SETTINGS = OptimizerSettings(
    epochs=6, warmup_epochs=2.0, learning_rate=0.1, weight_decay=5e-3, label_smoothing=0.1
)
# Steps are few: optimising them would take longer than they do.
QUICK = {"xla_backend_optimization_level": 0}


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_steps_are_those_of_pytorch(mode, numbered):
    encoder = encoders.create("resnet20", mode, num_classes=10)
    tx = optimizer(SETTINGS, 1)
    variables = numbered(encoder)
    state = State(variables, tx.init(variables["params"]))
    objective = CrossEntropy(encoder, SETTINGS.label_smoothing)
    step = jax.jit(functools.partial(train_step, objective, tx), compiler_options=QUICK)
    # In none of these batches rounding decides what passes a ReLU: data/make_steps.py.
    for number, seed in enumerate(RECORDED["seeds"]):
        images = np.random.default_rng(seed).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
        labels = np.random.default_rng(seed).integers(0, 10, 4).astype(np.int32)
        state, sums = step(state, images, labels, jax.random.key(0))
        # What rounding has changed grows from step to step.
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5 * 5**number)
        close(sums["loss"] / sums["count"], RECORDED[f"{mode}.{number}.loss"])
        arrays = [array for _, array in sorted(to_torch("resnet20", state.variables).items())]
        close(np.concatenate([some(array) for array in arrays]), RECORDED[f"{mode}.{number}"])


def some(array):
    """As in data/make_steps.py."""
    flat = array.ravel()
    return flat[:: max(len(flat) // 16, 1)][:16]


@pytest.fixture(autouse=True)
def devices_compile_quickly():
    """Not every JAX takes options."""
    options = QUICK if compiler_options("cpu") else {}
    with mock.patch("posjax.runtime.devices.compiler_options", return_value=options):
        yield


@pytest.fixture
def toy(numbered):
    """A small ResNet, its optimiser and state, and a batch of eight images with labels."""
    encoder = encoders.create("resnet20", "reflect", num_classes=3).clone(blocks=(1, 1, 1))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    labels = rng.integers(0, 3, 8).astype(np.int32)
    variables, tx = numbered(encoder), optimizer(SETTINGS, 4)
    return encoder, tx, State(variables, tx.init(variables["params"])), images, labels


def step_on(count, toy):
    """The state, the sums and the images as the step on `count` devices sees them."""
    encoder, tx, state, images, labels = toy
    objective = CrossEntropy(encoder, 0.1)
    devices = jax.devices()[:count]

    def step(state, images, labels):
        key, axis = jax.random.key(7), runtime.BATCH_AXIS
        seen, labels = training_view(images, labels, key, 4, "imagenet", axis)
        return *train_step(objective, tx, state, seen, labels, key, axis), seen

    (images, labels), _ = runtime.shard_batch((images, labels), 8, devices)
    stepped = runtime.pmap(step, devices)(runtime.replicate(state, devices), images, labels)
    return *runtime.unreplicate(stepped[:2]), runtime.unshard(stepped[2], 8)


def test_eight_devices_take_the_step_of_one(toy):
    (one, of_one, same), (eight, sums, seen) = step_on(1, toy), step_on(8, toy)
    np.testing.assert_array_equal(seen, same)
    assert (sums["accuracy"], sums["count"]) == (of_one["accuracy"], 8)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, eight.variables, one.variables)


@pytest.mark.parametrize("count", [1, 8])
def test_masks_are_cut_out_and_mirrored_with_their_images(count):
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    devices = jax.devices()[:count]

    def view(images, masks):
        key, axis = jax.random.key(7), runtime.BATCH_AXIS
        return training_view(images, masks, key, 4, "none", axis)

    shards, _ = runtime.shard_batch((images, images[..., 0]), 8, devices)
    seen, masks = runtime.unshard(runtime.pmap(view, devices)(*shards), 8)
    assert masks.shape == (8, 8, 8)
    np.testing.assert_array_equal(np.rint(seen[..., 0] * 255), masks)
    assert len({tuple(mask[0]) for mask in masks}) == 8
    central, middle = evaluation_view(jnp.asarray(images), jnp.asarray(images[..., 0]), 4, "none")
    np.testing.assert_array_equal(middle, images[:, 2:-2, 2:-2, 0])
    np.testing.assert_array_equal(np.rint(central[..., 0] * 255), middle)


def test_evaluation_measures_the_network_without_label_smoothing(toy):
    encoder, _, state, images, labels = toy
    seen, labels = jnp.asarray(images / 255, jnp.float32), jnp.asarray(labels)
    logits = encoder.apply(state.variables, seen, method="logits")
    objective = CrossEntropy(encoder, 0.1)
    measured = evaluate_step(objective, state.variables, seen, labels)
    np.testing.assert_allclose(measured["loss"], objective.losses(logits, labels), atol=1e-5)
    np.testing.assert_array_equal(measured["accuracy"], np.argmax(logits, axis=1) == labels)


def test_a_step_in_bfloat16_moves_statistics_and_keeps_parameters_in_float32(toy):
    encoder, tx, state, images, labels = toy
    objective = CrossEntropy(encoder.clone(dtype=jnp.bfloat16))
    step = jax.jit(functools.partial(train_step, objective, tx), compiler_options=QUICK)
    seen = jnp.asarray(images / 255, jnp.float32)
    moved, sums = step(state, seen, jnp.asarray(labels), jax.random.key(0))
    assert np.isfinite(sums["loss"])
    before = flax.traverse_util.flatten_dict(state.variables)
    for path, leaf in flax.traverse_util.flatten_dict(moved.variables).items():
        assert leaf.dtype == jnp.float32
        assert np.any(leaf != before[path]), path
