"""Training one network: epochs, checkpoints, evaluation; stopped and started as often as needed."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posjax.runs import parallel, progress
from posjax.runs.checkpoints import Checkpoints
from posjax.training.feeding import Feed, order
from posjax.training.recipe import Recipe, optimizer, schedule
from posjax.training.steps import Objective, State, evaluation_step, network_step

History = dict[str, np.ndarray]
"""By name, one value an epoch: means over the images of training, learning rate, and `test_…`."""

Log = Callable[[int, History], None]


class Trained(NamedTuple):
    """A trained network, and each epoch's figures; or how far it has come.

    `step` counts from the start of training; `finished` is false where it was asked to stop.
    """

    variables: Any
    history: History
    step: int
    finished: bool


def train(
    objective: Objective,
    title: str,
    images: Feed,
    test_images: Feed,
    recipe: Recipe,
    *,
    normalize: str,
    devices: Sequence[jax.Device],
    checkpoints: Checkpoints,
    begin: Callable[[Any], Any] = lambda variables: variables,
    log: Log | None = None,
    evaluate_every: int = 1,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains an objective's network, from its newest checkpoint if it has one; `title` is shown.

    `begin` makes the initial variables out of random ones.

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
    rates = schedule(recipe, steps)
    unseeded = dataclasses.replace(recipe, seed=0)
    take_step = _train_step(objective, unseeded, steps, normalize, tuple(devices))
    place, history = _begun(objective, images, recipe, begin, checkpoints)
    written = place.step
    if place.step:
        progress.note(f"{title}, seed {recipe.seed}, goes on after step {place.step}")
    place = _Place(*parallel.replicate(place[:2], devices), place.step)
    how = {"batch_size": size, "margin": recipe.crop_margin, "normalize": normalize}
    in_bar = ("loss", f"test_{objective.trained[-1]}")
    shown: dict[str, str] = {}
    finished = int(np.isfinite(history["loss"]).sum())
    with progress.bar(recipe.epochs * steps * size, f"train {title}", "images") as bar:
        bar.update(place.step * size)
        for epoch in range(finished, recipe.epochs):
            end = (epoch + 1) * steps
            rows = order(count, size, epoch, recipe.seed)[(place.step - epoch * steps) * size :]
            steps_ahead = _steps(take_step, images.batches(rows, size), place, recipe, devices)
            for place in steps_ahead:
                progress.advance(bar, size, **shown)
                if asked_to_stop():
                    _write(checkpoints, place, history, written, rates)
                    return _trained(place, history, finished=False)
                if place.step < end and checkpoints.due():
                    written = _write(checkpoints, place, history, written, rates)
            current, seen = _read(place, rates)
            figures = {name: float(seen[name] / seen["count"]) for name in objective.trained}
            figures["learning_rate"] = float(rates(place.step - 1))
            last = epoch + 1 == recipe.epochs
            if last or (epoch + 1) % evaluate_every == 0:
                measured = evaluate(
                    objective, current.variables, test_images, devices, asked_to_stop, **how
                )
                if measured is None:
                    _write(checkpoints, place, history, written, rates)
                    return _trained(place, history, finished=False)
                tested = objective.summary(measured)
                check_finite(tested["loss"], current.variables, place.step, rates)
                figures |= {f"test_{name}": tested[name] for name in objective.tested}
            for key, value in figures.items():
                history[key][epoch] = value
            place = place._replace(sums=parallel.replicate(_no_sums(objective), devices))
            shown |= {key: f"{value:.3f}" for key, value in figures.items() if key in in_bar}
            told = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            progress.log(bar, f"{title}: epoch {epoch + 1} of {recipe.epochs}: {told}")
            if log is not None:
                log(epoch, history)
            if last or checkpoints.due():
                written = _write(checkpoints, place, history, written, rates)
    return _trained(place, history, finished=True)


class _Place(NamedTuple):
    """How far a training has come: its state, the sums of this epoch, and the steps taken."""

    state: State
    sums: dict[str, Any]
    step: int


def _begun(
    objective: Objective,
    images: Feed,
    recipe: Recipe,
    begin: Callable[[Any], Any],
    checkpoints: Checkpoints,
) -> tuple[_Place, History]:
    """Where the newest checkpoint stands, or else the start; on the host."""
    steps = len(images) // recipe.batch_size
    height, width, channels = images.source[0].shape
    shape = (1, height - recipe.crop_margin, width - recipe.crop_margin, channels)
    # No padding mode has parameters of its own: all draw the same.
    random = jax.jit(objective.module.init)(jax.random.key(recipe.seed), jnp.zeros(shape))
    start = State(random, optimizer(recipe, steps).init(random["params"]))
    none = _no_sums(objective), _no_history(objective, recipe)
    step, (state, sums, found) = checkpoints.restore(jax.device_get((start, *none)))
    if not step:
        # What the optimiser keeps begins with zeros, whatever the weights.
        state = state._replace(variables=begin(random))
    history = {name: found[name] for name in none[1]}  # in this order, too
    return _Place(state, sums, step), history


def _steps(
    take_step: Callable,
    batches: Iterable[tuple[np.ndarray, ...]],
    place: _Place,
    recipe: Recipe,
    devices: Sequence[jax.Device],
) -> Iterator[_Place]:
    """The place after each batch, whose memory the next one takes."""
    seed = parallel.replicate(np.uint32(recipe.seed), devices)
    pending: collections.deque = collections.deque(maxlen=3)
    for batch in batches:
        shards, _ = parallel.split(batch, recipe.batch_size, devices)
        number = np.full(len(devices), place.step, np.uint32)
        place = _Place(*take_step(*place[:2], *shards, seed, number), place.step + 1)
        # Steps that wait for the devices would pile up their batches in memory.
        pending.append(place.sums)
        jax.block_until_ready(pending[0])
        yield place


def _read(place: _Place, rates: Callable[[int], Any]) -> tuple[State, dict[str, Any]]:
    """State and sums on the host. Raises FloatingPointError where they are not finite."""
    state, sums = parallel.gather(place[:2])
    check_finite(sums["loss"], state.variables, place.step, rates)
    return state, sums


def _write(
    checkpoints: Checkpoints,
    place: _Place,
    history: History,
    written: int,
    rates: Callable[[int], Any],
) -> int:
    """Writes a checkpoint, unless one of this step is written; returns the step that is."""
    state, sums = _read(place, rates)
    if place.step > written:
        checkpoints.save(place.step, (state, sums, history))
    return place.step


def _trained(place: _Place, history: History, *, finished: bool) -> Trained:
    return Trained(parallel.gather(place.state).variables, history, place.step, finished)


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
    objective: Objective,
    variables: Any,
    images: Feed,
    devices: Sequence[jax.Device],
    asked_to_stop: Callable[[], bool] = lambda: False,
    *,
    batch_size: int,
    margin: int,
    normalize: str,
) -> dict[str, np.ndarray] | None:
    """The measures of all images, each once; None where it was asked to stop before that."""
    step = _evaluate_step(objective, margin, normalize, tuple(devices))
    variables = parallel.replicate(variables, devices)
    found = []
    for batch in images.batches(np.arange(len(images)), batch_size):
        if asked_to_stop():
            return None
        shards, _ = parallel.split(batch, batch_size, devices)
        found.append(parallel.join(step(variables, *shards), len(batch[0])))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _no_sums(objective: Objective) -> dict[str, np.float32]:
    return {name: np.float32(0) for name in (*objective.trained, "count")}


def _no_history(objective: Objective, recipe: Recipe) -> History:
    names = (*objective.trained, "learning_rate", *(f"test_{name}" for name in objective.tested))
    return {name: np.full(recipe.epochs, np.nan) for name in names}


# Cached, because a compiled step serves all seeds.
@functools.cache
def _train_step(
    objective: Objective,
    recipe: Recipe,
    steps: int,
    normalize: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    step = network_step(objective, optimizer(recipe, steps), recipe.crop_margin, normalize)
    return parallel.pmap(step, devices, donate_argnums=(0,))


@functools.cache
def _evaluate_step(
    objective: Objective, margin: int, normalize: str, devices: tuple[jax.Device, ...]
) -> Callable:
    return parallel.pmap(evaluation_step(objective, margin, normalize), devices)
