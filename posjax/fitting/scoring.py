"""Many readouts of one architecture, scored at once on one read of the features."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from posjax import runtime
from posjax.features import Features
from posjax.fitting import control_targets
from posjax.fitting.sgd import over_readouts
from posjax.fitting.spec import Readouts
from posjax.probes import Readout, mae, spc
from posjax.probes.controls import task_map
from posjax.probes.metrics import ROUNDING
from posjax.probes.profiles import CELLS, RINGS, error_cells, ring_means, ring_spc
from posjax.probes.readout import Aligned, Stages
from posjax.probes.scores import Scores
from posjax.runtime import progress


def score(
    readouts: Readouts,
    variables: Any,
    features: Features,
    devices: Sequence[jax.Device],
    *,
    batch_size: int = 32,
    rounding: float = ROUNDING,
) -> Scores:
    """Scores of every readout on every image of all hosts.

    A prediction that varies by no more than `rounding` has no SPC, see `spc`. `features` and
    `devices` are this host's; every host must call this.
    """
    count = len(readouts)
    parts: list[tuple[np.ndarray, ...]] = [
        # A host without images has these.
        (
            np.zeros((count, 0), np.float32),
            np.zeros((count, 0), np.float32),
            np.zeros((count, 0, RINGS), np.float32),
            np.zeros((count, 0, RINGS), np.float32),
        )
    ]
    errors = np.zeros((count, CELLS, CELLS))
    for *values, cells in _batches(readouts, variables, features, devices, batch_size, rounding):
        parts.append((*values, ring_means(cells)))
        errors += cells.sum(axis=1, dtype=np.float64)
    local = (np.concatenate(values, axis=1) for values in zip(*parts, strict=True))
    spcs, maes, ring_spcs, ring_maes = (runtime.gather_rows(x, axis=1) for x in local)
    if not _has_profile(readouts.readout):
        return Scores(spcs, maes)
    error = cast(np.ndarray, sum(runtime.all_gather_object(errors))) / features.total
    return Scores(spcs, maes, ring_spcs, ring_maes, error.astype(np.float32))


def _batches(
    readouts: Readouts,
    variables: Any,
    features: Features,
    devices: Sequence[jax.Device],
    batch_size: int,
    rounding: float,
) -> Iterator[tuple[np.ndarray, ...]]:
    """What `score_step` gives for each batch of this host's images."""
    readout, tasks = readouts.readout, readouts.tasks
    goals = np.stack([task_map(task, readout.map_size) for task in tasks])
    per_image = tuple(control_targets.per_image(tasks))
    step = _compiled(readout, per_image, rounding, tuple(devices))
    variables, goals = runtime.replicate((variables, goals), devices)
    size = -(-batch_size // runtime.hosts())
    starts = range(0, len(features), size)
    orders = [np.arange(start, min(start + size, len(features))) for start in starts]
    with progress.bar(len(features), f"score {len(readouts)}", "images") as bar:
        for rows, stages in zip(orders, features.stream(orders, readouts.stages), strict=True):
            images = runtime.global_indices(rows)
            orders_of_pixels = control_targets.permutations_of(readout, tasks, images)
            (shards, permutations), _ = runtime.shard_batch(
                (stages, orders_of_pixels), size, devices
            )
            scored = step(variables, goals, shards, permutations)
            yield runtime.unshard(scored, len(rows), axis=1)
            progress.advance(bar, len(rows))


def _has_profile(readout: Readout) -> bool:
    # Maps of fewer pixels than cells have none.
    return min(readout.map_size) >= CELLS


def predict(
    readout: Readout, variables: Any, batch: dict[str, np.ndarray]
) -> Float[np.ndarray, "r n h w"]:
    """The maps that every readout predicts on one batch of stages."""
    return jax.device_get(_predict_step(readout)(variables, batch))


def score_step(
    readout: Readout, per_image: tuple[int, ...], rounding: float = ROUNDING
) -> Callable:
    """The step that scores r readouts on n images.

    It maps (variables, maps [r, h, w], stages, permutations [n, pixels]) to SPC [r, n], MAE
    [r, n], SPC in rings [r, n, RINGS] and errors in cells [r, n, CELLS, CELLS]. The last two are
    zeros where maps have fewer pixels than cells. `rounding` is as for `score`. The permutations
    are those of the readouts `per_image`, see `control_targets.permutations_of`.
    """

    located = _has_profile(readout)

    def score_readouts(
        variables: Any,
        goals: Float[Array, "r h w"],
        stages: Stages,
        permutations: Int[Array, "n m"],
    ) -> tuple[Array, ...]:
        def one(args: tuple[Array, Array, Array]) -> tuple[Array, ...]:
            response, goal, shuffled = args
            prediction = readout.upsample(response)
            if per_image:
                back = functools.partial(control_targets.put_back, permutations=permutations)
                prediction = lax.cond(shuffled, back, lambda same: same, prediction)
            whole = spc(prediction, goal, rounding), mae(prediction, goal)
            if located:
                return *whole, ring_spc(prediction, goal, rounding), error_cells(prediction, goal)
            n = len(prediction)
            return *whole, jnp.zeros((n, RINGS)), jnp.zeros((n, CELLS, CELLS))

        responses = _respond(readout, variables, readout.align(stages))
        shuffled = jnp.isin(jnp.arange(len(goals)), jnp.array(per_image, int))
        # One readout at a time: full-size maps of all of them would fill the memory.
        return lax.map(one, (responses, goals, shuffled))

    return score_readouts


def predict_step(readout: Readout) -> Callable:
    """The step that maps (variables, stages) to the maps that r readouts predict, [r, n, h, w]."""

    def predict_maps(variables: Any, stages: Stages) -> Float[Array, "r n h w"]:
        responses = _respond(readout, variables, readout.align(stages))
        return jax.vmap(readout.upsample)(responses)

    return predict_maps


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _compiled(
    readout: Readout,
    per_image: tuple[int, ...],
    rounding: float,
    devices: tuple[jax.Device, ...],
) -> Callable:
    return runtime.pmap(score_step(readout, per_image, rounding), devices)


@functools.cache
def _predict_step(readout: Readout) -> Callable:
    return jax.jit(predict_step(readout))


def _respond(readout: Readout, variables: Any, aligned: Aligned) -> Float[Array, "r n h w"]:
    return over_readouts(readout, lambda v: readout.apply(v, aligned, method="respond"))(variables)
