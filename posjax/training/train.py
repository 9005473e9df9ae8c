"""Training one encoder: epochs, checkpoints, evaluation; stopped and started as often as needed."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from posjax import encoders
from posjax.runs import parallel, progress
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.frozen import statistics_of
from posjax.training.classifier import (
    State,
    Totals,
    evaluate_step,
    evaluation_view,
    train_step,
    training_view,
)
from posjax.training.feeding import Feed, order
from posjax.training.recipe import Recipe, optimizer, schedule

HISTORY = (
    *("loss", "accuracy", "learning_rate"),
    *("test_loss", "test_accuracy", "test_correct", "test_count"),
)
"""What is known of each epoch: means over the images seen in it, and those of the test images."""

SHOWN = ("loss", "test_accuracy")

_NOTHING = Totals(np.float32(0), np.int32(0), np.int32(0))

History = dict[str, np.ndarray]
Log = Callable[[int, History], None]


class Trained(NamedTuple):
    """A trained encoder, with its head, and each epoch's figures; or how far it has come.

    `step` counts from the start of training; `finished` is false where it was asked to stop.
    """

    variables: Any
    history: History
    step: int
    finished: bool


def train(
    name: str,
    padding: str,
    images: Feed,
    test_images: Feed,
    recipe: Recipe,
    *,
    normalize: str,
    devices: Sequence[jax.Device],
    checkpoints: Checkpoints,
    log: Log | None = None,
    evaluate_every: int = 1,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains an encoder and its head to classify images, from its newest checkpoint if it has one.

    On the same CPUs the result is the same bit for bit, however often training was killed and
    started again (GPUs do not add up in the same order every time); on another number of devices
    it is the same up to rounding, but for the dropout of VGG's head, which each device draws.
    Checkpoints are written when they are due, at the end, and when `asked_to_stop` returns true,
    which ends the training. `log` is called after every epoch. The test images are evaluated every
    so many epochs, and after the last.

    Raises:
        ValueError: fewer images than a batch, a batch that the devices cannot share out evenly, a
            checkpoint that cannot be read or is of another training, an image that cannot be read.
        FloatingPointError: the loss is not finite; says at which step and learning rate.
        OSError: a checkpoint cannot be written; the one before it is still there.
    """
    count, size = len(images), recipe.batch_size
    check_batch(count, size, len(devices))
    steps = count // size
    encoder = encoders.create(
        name, padding, num_classes=len(images.labelled.classes), dtype=jnp.dtype(recipe.dtype)
    )
    rates = schedule(recipe, steps)
    take_step = _train_step(encoder, _unseeded(recipe), steps, normalize, tuple(devices))
    start = (_initial(encoder, images, recipe, steps), _NOTHING, _no_history(recipe))
    done, (state, totals, history) = checkpoints.restore(jax.device_get(start))
    saved = done
    if done:
        progress.note(f"{name} under {padding}, seed {recipe.seed}, goes on after step {done}")
    state, totals, seed = parallel.replicate((state, totals, np.uint32(recipe.seed)), devices)

    def save() -> None:
        nonlocal saved
        current, seen = parallel.gather((state, totals))
        check_finite(seen.loss, current.variables, done, rates)
        if done > saved:
            checkpoints.save(done, (current, seen, history))
            saved = done

    def stopped() -> Trained:
        save()
        return Trained(parallel.gather(state).variables, history, done, False)

    shown: dict[str, str] = {}
    finished = int(np.isfinite(history["loss"]).sum())
    with progress.bar(recipe.epochs * steps * size, f"train {name} {padding}", "images") as bar:
        bar.update(done * size)
        for epoch in range(finished, recipe.epochs):
            end = (epoch + 1) * steps
            rows = order(count, size, epoch, recipe.seed)[(done - epoch * steps) * size :]
            pending: collections.deque = collections.deque(maxlen=3)
            for pixels, labels in images.batches(rows, size):
                (shards, targets), _ = parallel.split((pixels, labels), size, devices)
                number = np.full(len(devices), done, np.uint32)
                state, totals = take_step(state, totals, shards, targets, seed, number)
                done += 1
                # Steps that wait for the devices would pile up their batches in memory.
                pending.append(totals)
                jax.block_until_ready(pending[0])
                progress.advance(bar, size, **shown)
                if asked_to_stop():
                    return stopped()
                if done < end and checkpoints.due():
                    save()
            current, seen = parallel.gather((state, totals))
            check_finite(seen.loss, current.variables, done, rates)
            figures = _figures(seen, "") | {"learning_rate": float(rates(done - 1))}
            last = epoch + 1 == recipe.epochs
            if last or (epoch + 1) % evaluate_every == 0:
                how = {"batch_size": size, "margin": recipe.crop_margin, "normalize": normalize}
                tested = evaluate(
                    encoder, current.variables, test_images, devices, asked_to_stop, **how
                )
                if tested is None:
                    return stopped()
                check_finite(tested.loss, current.variables, done, rates)
                figures |= _figures(tested, "test_")
            for key, value in figures.items():
                history[key][epoch] = value
            totals = parallel.replicate(_NOTHING, devices)
            shown |= {key: f"{value:.3f}" for key, value in figures.items() if key in SHOWN}
            if log is not None:
                log(epoch, history)
            if last or checkpoints.due():
                save()
    return Trained(parallel.gather(state).variables, history, done, True)


def check_batch(count: int, batch_size: int, devices: int) -> None:
    """Raises ValueError where there is not one whole batch, or devices would get unequal parts."""
    if count < batch_size:
        raise ValueError(f"--batch_size={batch_size}: there are only {count} training images")
    if batch_size % devices:
        raise ValueError(f"--batch_size={batch_size} is no multiple of the {devices} devices")


def check_finite(loss: Any, variables: Any, step: int, rates: Callable[[int], Any]) -> None:
    """Raises FloatingPointError where the loss up to `step`, or what it left, is not finite."""
    if np.isfinite(loss) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        return
    raise FloatingPointError(
        f"the loss or the weights are not finite, seen after step {step} with learning rate "
        f"{float(rates(step - 1)):g} (loss {float(loss):g}): lower the learning rate"
    )


def evaluate(
    encoder: nn.Module,
    variables: Any,
    images: Feed,
    devices: Sequence[jax.Device],
    asked_to_stop: Callable[[], bool] = lambda: False,
    *,
    batch_size: int,
    margin: int,
    normalize: str,
) -> Totals | None:
    """The totals of all images, each counted once; None where it was asked to stop before that."""
    step = _evaluate_step(encoder, margin, normalize, tuple(devices))
    variables = parallel.replicate(variables, devices)
    loss, correct, count = 0.0, 0, 0
    for pixels, labels in images.batches(np.arange(len(images)), batch_size):
        if asked_to_stop():
            return None
        shards, mask = parallel.split((pixels, labels), batch_size, devices)
        found = parallel.gather(step(variables, *shards, mask))
        loss += float(found.loss)
        correct += int(found.correct)
        count += int(found.count)
    return Totals(loss, correct, count)


def _figures(totals: Totals, prefix: str) -> dict[str, float]:
    count = int(totals.count)
    figures = {"loss": float(totals.loss) / count, "accuracy": int(totals.correct) / count}
    if prefix:
        figures |= {"correct": int(totals.correct), "count": count}
    return {prefix + key: value for key, value in figures.items()}


def _initial(encoder: nn.Module, images: Feed, recipe: Recipe, steps: int) -> State:
    height, width, channels = images.labelled.source[0].shape
    shape = (1, height - recipe.crop_margin, width - recipe.crop_margin, channels)
    # No padding mode has parameters of its own: all start alike.
    variables = jax.jit(encoder.init)(jax.random.key(recipe.seed), jnp.zeros(shape))
    return State(variables, optimizer(recipe, steps).init(variables["params"]))


def _unseeded(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, seed=0)


def _no_history(recipe: Recipe) -> History:
    return {key: np.full(recipe.epochs, np.nan) for key in HISTORY}


# Cached, because a compiled step serves all seeds.
@functools.cache
def _train_step(
    encoder: nn.Module,
    recipe: Recipe,
    steps: int,
    normalize: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    tx = optimizer(recipe, steps)
    statistics = statistics_of(normalize)

    def step(
        state: State, totals: Totals, images: Array, labels: Array, seed: Array, number: Array
    ) -> tuple[State, Totals]:
        crops, dropout = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        dropout = jax.random.fold_in(dropout, jax.lax.axis_index(parallel.AXIS))
        seen = training_view(images, crops, recipe.crop_margin, statistics, parallel.AXIS)
        state, more = train_step(
            encoder, tx, recipe.label_smoothing, state, seen, labels, dropout, parallel.AXIS
        )
        return state, jax.tree.map(jnp.add, totals, more)

    return parallel.pmap(step, devices, donate_argnums=(0,))


@functools.cache
def _evaluate_step(
    encoder: nn.Module, margin: int, normalize: str, devices: tuple[jax.Device, ...]
) -> Callable:
    statistics = statistics_of(normalize)

    def step(variables: Any, images: Array, labels: Array, mask: Array) -> Totals:
        seen = evaluation_view(images, margin, statistics)
        return evaluate_step(encoder, variables, seen, labels, mask, parallel.AXIS)

    return parallel.pmap(step, devices)
