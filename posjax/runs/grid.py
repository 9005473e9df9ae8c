"""Many readouts of one shape, trained at once on one read of the features."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from posjax.probes import MAPS, Readout
from posjax.probes.controls import Task
from posjax.probes.readout import Stages
from posjax.probes.trainer import (
    State,
    Target,
    check_finite,
    optimizer,
    step_decay,
    train_step,
)
from posjax.runs import parallel, progress, targets
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.features import Features

Log = Callable[[int, Float[np.ndarray, " r"]], None]


def train(
    readout: Readout,
    features: Features,
    stages: Sequence[str],
    tasks: Sequence[Task],
    seeds: Sequence[int],
    *,
    epochs: int = 15,
    learning_rate: float = 0.1,
    batch_size: int = 32,
    devices: Sequence[jax.Device],
    checkpoints: Checkpoints | None = None,
    log: Log | None = None,
) -> tuple[Any, Float[np.ndarray, "steps r"]]:
    """Trains r readouts, one for each pair of `tasks[i]` and `seeds[i]`.

    A readout's initial weights depend on its map and seed alone, and the order of the images on
    the epoch alone: a readout in a grid is the readout trained by itself. `log` is called with
    the epoch and each readout's mean loss in it. `features` are those of this host's images, and
    so are `devices`; every host must call this, and `checkpoints` and `log` are the first's.

    Returns the variables, stacked along a first axis of r, and the losses.

    Raises:
        FloatingPointError: a loss is not finite; says of which readout, step and learning rate.
    """
    names = [
        f"map {task.map}{f' ({task.control})' if task.control else ''}, seed {seed}"
        for task, seed in zip(tasks, seeds, strict=True)
    ]
    count = sum(parallel.from_all(len(features)))
    steps = -(-count // batch_size)
    schedule = step_decay(learning_rate, epochs, steps)
    everywhere = parallel.everywhere(devices)
    own_targets = tuple(targets.per_image(tasks))
    step, tx = _train_step(readout, learning_rate, epochs, steps, own_targets, everywhere)
    common = parallel.replicate(targets.common_targets(readout, tasks), devices)

    variables = _initial(readout, features, stages, tasks, seeds)
    state = State(variables, jax.vmap(tx.init)(variables["params"]))
    losses = np.zeros((epochs * steps, len(tasks)), np.float32)
    start = jax.device_get((state, losses))
    first, (state, losses) = parallel.from_first(
        lambda: (0, start) if checkpoints is None else checkpoints.restore(start)
    )
    state, losses = parallel.replicate(state, devices), np.array(losses)

    room = _room(count, batch_size, epochs)
    with progress.bar((epochs - first) * count, f"train {len(tasks)}", "images") as bar:
        figures: dict[str, str] = {}
        orders = (_order(count, batch_size, epoch) for epoch in range(first, epochs))
        own = (parallel.own(rows) for order in orders for rows in order)
        ahead = features.stream(own, stages)
        for epoch in range(first, epochs):
            pending = []
            for rows in _order(count, batch_size, epoch):
                numbers = parallel.numbers(parallel.own(rows))
                batch = next(ahead), targets.image_targets(readout, tasks, numbers)
                (shards, goals), mask = parallel.split(batch, room, devices)
                state, loss = step(state, common, goals, shards, mask)
                pending.append(loss)
                # Steps that wait for the devices would pile up their batches in memory.
                jax.block_until_ready(pending[-3:-2])
                progress.advance(bar, len(rows), **figures)
            now = slice(epoch * steps, (epoch + 1) * steps)
            losses[now] = [parallel.gather(loss) for loss in pending]
            figures = {"loss": f"{losses[now].mean():.4f}"}
            check_finite(losses[now], names, schedule, now.start)
            current = parallel.gather(state)
            _check_finite_variables(current.variables, names, now.stop, learning_rate)
            if log is not None:
                log(epoch, losses[now].mean(axis=0))
            if checkpoints is not None and (epoch + 1 == epochs or checkpoints.due()):
                checkpoints.save(epoch + 1, (current, losses))
    return parallel.gather(state).variables, losses


def _check_finite_variables(
    variables: Any, names: Sequence[str], steps: int, learning_rate: float
) -> None:
    # The last update of an epoch shows in no loss before the next one.
    for i, name in enumerate(names):
        if not all(np.isfinite(leaf[i]).all() for leaf in jax.tree.leaves(variables)):
            raise FloatingPointError(
                f"the parameters of readout {name} are not finite after step {steps - 1} with "
                f"learning rate {learning_rate:g}: lower the learning rate"
            )


def _initial(
    readout: Readout,
    features: Features,
    stages: Sequence[str],
    tasks: Sequence[Task],
    seeds: Sequence[int],
) -> Any:
    row = np.arange(min(1, len(features)))  # sizes are all that counts
    sample = {s: jnp.asarray(a) for s, a in features.rows(row, stages).items()}
    keys = [
        jax.random.fold_in(jax.random.key(seed), MAPS.index(task.map))
        for task, seed in zip(tasks, seeds, strict=True)
    ]
    return _init_step(readout)(jnp.stack(keys), sample)


def _order(count: int, batch_size: int, epoch: int) -> list[np.ndarray]:
    shuffled = np.random.default_rng(epoch).permutation(count)
    # In a batch the order is free, and features are read faster in the order of the disk.
    return [np.sort(shuffled[i : i + batch_size]) for i in range(0, count, batch_size)]


def _room(count: int, batch_size: int, epochs: int) -> int:
    """Rows of a batch that a host must have room for, in whatever step: all have one shape."""
    hosts = parallel.hosts()
    if hosts == 1:
        return batch_size
    batches = (rows for epoch in range(epochs) for rows in _order(count, batch_size, epoch))
    return max((int(np.bincount(rows % hosts).max()) for rows in batches), default=1)


def over_readouts(readout: Readout, fn: Callable) -> Callable:
    """`fn` over the first axis of what it is given: one place for each readout."""
    # One convolution of one channel for each readout is a single matrix product. Deeper readouts
    # share nothing behind their first layer, and would only multiply the memory.
    if readout.depth == 1:
        return lambda args: jax.vmap(fn)(args)
    return functools.partial(lax.map, fn)


def readout_step(
    readout: Readout, tx: optax.GradientTransformation, own_targets: tuple[int, ...]
) -> Callable:
    """The step that trains r readouts on a batch, on one device of several.

    It maps (states, common targets, own targets, stages, mask) to (states, losses [r]):
    states and common targets have a first axis of r, the own ones are of the readouts that
    `own_targets` names, see `targets`. Rows with mask 0 do not count.
    """

    def train_readouts(
        states: State, common: Target, own: Target, stages: Stages, mask: Float[Array, " n"]
    ) -> tuple[State, Float[Array, " r"]]:
        aligned = readout.align(stages)

        def one(args: tuple[State, Target]) -> tuple[State, Array]:
            state, target = args
            return train_step(readout, tx, state, aligned, target, mask, parallel.AXIS)

        goals = targets.merged(common, own, own_targets) if own_targets else common
        return over_readouts(readout, one)((states, goals))

    return train_readouts


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _init_step(readout: Readout) -> Callable:
    return jax.jit(jax.vmap(readout.init, in_axes=(0, None)))


@functools.cache
def _train_step(
    readout: Readout,
    learning_rate: float,
    epochs: int,
    steps_per_epoch: int,
    own_targets: tuple[int, ...],
    devices: tuple[jax.Device, ...],
) -> tuple[Callable, optax.GradientTransformation]:
    tx = optimizer(step_decay(learning_rate, epochs, steps_per_epoch))
    step = readout_step(readout, tx, own_targets)
    return parallel.pmap(step, devices, donate_argnums=(0,)), tx
