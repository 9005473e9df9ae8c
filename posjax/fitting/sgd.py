"""Many readouts of one architecture, trained at once on one read of the features."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from posjax import runtime
from posjax.features import Features
from posjax.fitting import control_targets
from posjax.fitting.spec import Fitted, Readouts
from posjax.probes import MAPS, Readout
from posjax.probes.readout import Stages
from posjax.probes.trainer import (
    LowResTarget,
    State,
    check_finite,
    optimizer,
    step_decay,
    target_for,
    train_step,
)
from posjax.runtime import progress

Log = Callable[[int, Float[np.ndarray, " r"]], None]


@dataclasses.dataclass(frozen=True)
class SGD:
    """The paper's training of readouts: momentum, weight decay, a learning rate that falls once."""

    epochs: int = 15
    learning_rate: float = 0.1
    batch_size: int = 32

    def fit(
        self,
        readouts: Readouts,
        features: Features,
        devices: Sequence[jax.Device],
        log: Log | None = None,
    ) -> Fitted:
        """Trains the readouts.

        The initial weights of a readout depend on its map and seed alone, and the order of the
        images on the epoch alone: a readout in a grid is the readout trained by itself. `log` gets
        the epoch and each readout's mean loss in it. `features` and `devices` are those of this
        host; every host must call this.

        Raises:
            FloatingPointError: a loss is not finite; says of which readout, step and learning rate.
        """
        readout, tasks, names = readouts.readout, readouts.tasks, readouts.names
        steps = -(-features.total // self.batch_size)
        schedule = step_decay(self.learning_rate, self.epochs, steps)
        devices_of_all = runtime.global_devices(devices)
        step, tx = _compiled(readout, self, steps, control_targets.per_image(tasks), devices_of_all)
        common = target_for(readout, control_targets.task_maps(readout, tasks))
        variables = _initial_variables(readouts, features)
        state = jax.device_get(State(variables, jax.vmap(tx.init)(variables["params"])))
        state, common = runtime.replicate((state, common), devices)
        losses = np.zeros((self.epochs * steps, len(readouts)), np.float32)
        with progress.bar(self.epochs * features.total, f"train {len(names)}", "images") as bar:
            batches = self._batches(readouts, features, devices)
            for epoch in range(self.epochs):
                pending = []
                for rows, arguments in itertools.islice(batches, steps):
                    state, loss = step(state, common, *arguments)
                    pending.append(loss)
                    # Steps that wait for the devices would pile up their batches in memory.
                    jax.block_until_ready(pending[-3:-2])
                    progress.advance(bar, rows)
                now = slice(epoch * steps, (epoch + 1) * steps)
                losses[now] = [runtime.unreplicate(loss) for loss in pending]
                check_finite(losses[now], names, schedule, now.start)
                if log is not None:
                    log(epoch, losses[now].mean(axis=0))
        variables = runtime.unreplicate(state).variables
        # The last update shows in no loss.
        for i, name in enumerate(names):
            if not all(np.isfinite(leaf[i]).all() for leaf in jax.tree.leaves(variables)):
                raise FloatingPointError(
                    f"the parameters of readout {name} are not finite after step "
                    f"{len(losses) - 1} with learning rate {self.learning_rate:g}: lower the "
                    "learning rate"
                )
        return Fitted(variables, losses)

    def _batches(
        self, readouts: Readouts, features: Features, devices: Sequence[jax.Device]
    ) -> Iterator[tuple[int, tuple]]:
        """The number of rows of each batch, and what the step takes: targets, stages and mask."""
        epochs = (batch_rows(features.total, self.batch_size, e) for e in range(self.epochs))
        orders = list(itertools.chain.from_iterable(epochs))
        local = [runtime.local_indices(rows) for rows in orders]
        # All steps have one shape: that of the largest share that any host has of a batch.
        shares = (np.bincount(rows % runtime.hosts()).max() for rows in orders)
        size = max(map(int, shares), default=0)
        stream = features.stream(local, readouts.stages)
        for rows, mine, stages in zip(orders, local, stream, strict=True):
            images = runtime.global_indices(mine)
            targets = control_targets.image_targets(readouts.readout, readouts.tasks, images)
            (shards, goals), mask = runtime.shard_batch((stages, targets), size, devices)
            yield len(rows), (goals, shards, mask)


def batch_rows(count: int, batch_size: int, epoch: int) -> list[np.ndarray]:
    """The images of each batch of an epoch."""
    shuffled = np.random.default_rng(epoch).permutation(count)
    # In a batch the order is free, and features are read faster in the order of the disk.
    return [np.sort(shuffled[i : i + batch_size]) for i in range(0, count, batch_size)]


def _initial_variables(readouts: Readouts, features: Features) -> Any:
    row = np.arange(min(1, len(features)))  # only sizes matter
    keys = [
        jax.random.fold_in(runtime.random_key(cast(int, seed)), MAPS.index(task.map))
        for task, seed in zip(readouts.tasks, readouts.seeds, strict=True)
    ]
    with runtime.drawing():
        return _init(readouts.readout, jnp.stack(keys), features.rows(row, readouts.stages))


@functools.partial(jax.jit, static_argnums=0)
def _init(readout: Readout, keys: Array, stages: Stages) -> Any:
    return jax.vmap(readout.init, in_axes=(0, None))(keys, stages)


def over_readouts(readout: Readout, fn: Callable) -> Callable:
    """`fn` over the first axis of its argument: one entry for each readout."""
    # The convolutions of depth 1 become a single matrix product. Deeper readouts share nothing
    # behind their first layer, and would only multiply the memory.
    if readout.depth == 1:
        return lambda args: jax.vmap(fn)(args)
    return functools.partial(lax.map, fn)


def readout_step(
    readout: Readout, tx: optax.GradientTransformation, per_image: tuple[int, ...]
) -> Callable:
    """The step that trains r readouts on a batch, on one device of several.

    It maps (states, common targets, targets per image, stages, mask) to (states, losses [r]).
    States and common targets have a first axis of r. The readouts `per_image` have a target for
    each image, see `control_targets`. Rows with mask 0 do not count.
    """

    def train_readouts(
        states: State,
        common: LowResTarget,
        images: LowResTarget,
        stages: Stages,
        mask: Float[Array, " n"],
    ) -> tuple[State, Float[Array, " r"]]:
        aligned = readout.align(stages)

        def one(args: tuple[State, LowResTarget]) -> tuple[State, Array]:
            state, target = args
            return train_step(readout, tx, state, aligned, target, mask, runtime.BATCH_AXIS)

        goals = control_targets.merged(common, images, per_image) if per_image else common
        return over_readouts(readout, one)((states, goals))

    return train_readouts


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _compiled(
    readout: Readout,
    sgd: SGD,
    steps_per_epoch: int,
    per_image: tuple[int, ...],
    devices: tuple[jax.Device, ...],
) -> tuple[Callable, optax.GradientTransformation]:
    tx = optimizer(step_decay(sgd.learning_rate, sgd.epochs, steps_per_epoch))
    step = readout_step(readout, tx, per_image)
    return runtime.pmap(step, devices, donate_argnums=(0,)), tx
