"""Many readouts of one shape, trained and scored at once on one read of the features."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from posjax.probes import MAPS, Readout, mae, position_map, spc
from posjax.probes.readout import Aligned, Stages
from posjax.probes.trainer import (
    State,
    Target,
    check_finite,
    optimizer,
    step_decay,
    target_for,
    train_step,
)
from posjax.runs import parallel, progress
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.features import Features

Log = Callable[[int, Float[np.ndarray, " r"]], None]


def train(
    readout: Readout,
    features: Features,
    stages: Sequence[str],
    maps: Sequence[str],
    seeds: Sequence[int],
    *,
    epochs: int = 15,
    learning_rate: float = 0.1,
    batch_size: int = 32,
    devices: Sequence[jax.Device],
    checkpoints: Checkpoints | None = None,
    log: Log | None = None,
) -> tuple[Any, Float[np.ndarray, "steps r"]]:
    """Trains r readouts, one for each pair of `maps[i]` and `seeds[i]`.

    A readout's initial weights depend on its map and seed alone, and the order of the images on
    the epoch alone: a readout in a grid is the readout trained by itself. `log` is called with
    the epoch and each readout's mean loss in it. `features` are those of this host's images, and
    so are `devices`; every host must call this, and `checkpoints` and `log` are the first's.

    Returns the variables, stacked along a first axis of r, and the losses.

    Raises:
        FloatingPointError: a loss is not finite; says of which readout, step and learning rate.
    """
    names = [f"map {m}, seed {s}" for m, s in zip(maps, seeds, strict=True)]
    count = sum(parallel.from_all(len(features)))
    steps = -(-count // batch_size)
    schedule = step_decay(learning_rate, epochs, steps)
    everywhere = parallel.everywhere(devices)
    step, tx = _train_step(readout, learning_rate, epochs, steps, everywhere)
    align, align_again = _align_steps(readout, tuple(devices))
    goals = [target_for(readout, position_map(name, readout.map_size)) for name in maps]
    targets = parallel.replicate(jax.tree.map(lambda *x: jnp.stack(x), *goals), devices)

    variables = _initial(readout, features, stages, maps, seeds)
    state = State(variables, jax.vmap(tx.init)(variables["params"]))
    losses = np.zeros((epochs * steps, len(maps)), np.float32)
    start = jax.device_get((state, losses))
    first, (state, losses) = parallel.from_first(
        lambda: (0, start) if checkpoints is None else checkpoints.restore(start)
    )
    state, losses = parallel.replicate(state, devices), np.array(losses)

    room = _room(count, batch_size, epochs)
    with progress.bar((epochs - first) * count, f"train {len(maps)}", "images") as bar:
        figures: dict[str, str] = {}
        aligned = None
        orders = (_order(count, batch_size, epoch) for epoch in range(first, epochs))
        own = (parallel.own(rows) for order in orders for rows in order)
        ahead = features.stream(own, stages)
        for epoch in range(first, epochs):
            pending = []
            for rows in _order(count, batch_size, epoch):
                shards, mask = parallel.split(next(ahead), room, devices)
                aligned = align(shards) if aligned is None else align_again(shards, aligned)
                state, loss = step(state, targets, aligned, mask)
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


def score(
    readout: Readout,
    variables: Any,
    features: Features,
    stages: Sequence[str],
    maps: Sequence[str],
    *,
    batch_size: int = 32,
    devices: Sequence[jax.Device],
) -> tuple[Float[np.ndarray, "r n"], Float[np.ndarray, "r n"]]:
    """SPC (NaN where undefined) and MAE of every readout on every image, whichever host has it.

    `features` and `devices` are this host's; every host must call this.
    """
    goals = jnp.stack([jnp.asarray(position_map(name, readout.map_size)) for name in maps])
    step = _score_step(readout, tuple(devices))
    variables, goals = parallel.replicate((variables, goals), devices)
    none = np.zeros((len(maps), 0), np.float32)  # what a host without images has
    scores = [(none, none)]
    batch_size = -(-batch_size // parallel.hosts())
    with progress.bar(len(features), f"score {len(maps)}", "images") as bar:
        starts = range(0, len(features), batch_size)
        orders = [np.arange(start, min(start + batch_size, len(features))) for start in starts]
        for rows, batch in zip(orders, features.stream(orders, stages), strict=True):
            shards, _ = parallel.split(batch, batch_size, devices)
            scores.append(parallel.join(step(variables, goals, shards), len(rows), axis=1))
            progress.advance(bar, len(rows))
    own = (np.concatenate(values, axis=1) for values in zip(*scores, strict=True))
    spcs, maes = (parallel.collect(values, axis=1) for values in own)
    return spcs, maes


def predict(
    readout: Readout, variables: Any, batch: dict[str, np.ndarray]
) -> Float[np.ndarray, "r n h w"]:
    """The maps that every readout predicts on one batch of stages."""
    return jax.device_get(_predict_step(readout)(variables, batch))


def _initial(
    readout: Readout,
    features: Features,
    stages: Sequence[str],
    maps: Sequence[str],
    seeds: Sequence[int],
) -> Any:
    row = np.arange(min(1, len(features)))  # sizes are all that counts
    sample = {s: jnp.asarray(a) for s, a in features.rows(row, stages).items()}
    keys = [
        jax.random.fold_in(jax.random.key(seed), MAPS.index(name))
        for name, seed in zip(maps, seeds, strict=True)
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


def _over_readouts(readout: Readout, fn: Callable) -> Callable:
    # One convolution of one channel for each readout is a single matrix product. Deeper readouts
    # share nothing behind their first layer, and would only multiply the memory.
    if readout.depth == 1:
        return lambda args: jax.vmap(fn)(args)
    return functools.partial(lax.map, fn)


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _init_step(readout: Readout) -> Callable:
    return jax.jit(jax.vmap(readout.init, in_axes=(0, None)))


@functools.cache
def _align_steps(readout: Readout, devices: tuple[jax.Device, ...]) -> tuple[Callable, Callable]:
    """The first batch's features, and a later one's in the memory of those before."""
    again = parallel.pmap(readout.align, devices, donate_argnums=(1,))
    return parallel.pmap(readout.align, devices), again


@functools.cache
def _train_step(
    readout: Readout,
    learning_rate: float,
    epochs: int,
    steps_per_epoch: int,
    devices: tuple[jax.Device, ...],
) -> tuple[Callable, optax.GradientTransformation]:
    tx = optimizer(step_decay(learning_rate, epochs, steps_per_epoch))

    def step(states: State, targets: Target, aligned: Aligned, mask: Array) -> tuple[State, Array]:
        def one(args: tuple[State, Target]) -> tuple[State, Array]:
            state, target = args
            return train_step(readout, tx, state, aligned, target, mask, parallel.AXIS)

        return _over_readouts(readout, one)((states, targets))

    return parallel.pmap(step, devices, donate_argnums=(0,)), tx


@functools.cache
def _score_step(readout: Readout, devices: tuple[jax.Device, ...]) -> Callable:
    def one(args: tuple[Array, Array]) -> tuple[Array, Array]:
        response, goal = args
        prediction = readout.upsample(response)
        return spc(prediction, goal), mae(prediction, goal)

    def step(variables: Any, goals: Array, stages: Stages) -> tuple[Array, Array]:
        responses = _respond(readout, variables, readout.align(stages))
        # One readout at a time: full-size maps of all of them would fill the memory.
        return lax.map(one, (responses, goals))

    return parallel.pmap(step, devices)


@functools.cache
def _predict_step(readout: Readout) -> Callable:
    def step(variables: Any, stages: Stages) -> Float[Array, "r n h w"]:
        responses = _respond(readout, variables, readout.align(stages))
        return jax.vmap(readout.upsample)(responses)

    return jax.jit(step)


def _respond(readout: Readout, variables: Any, aligned: Aligned) -> Float[Array, "r n h w"]:
    return _over_readouts(readout, lambda v: readout.apply(v, aligned, method="respond"))(variables)
