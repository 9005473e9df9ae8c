"""Many readouts of one shape, scored at once on one read of the features."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from posjax.probes import Readout, mae, spc
from posjax.probes.controls import Task, task_map
from posjax.probes.metrics import ROUNDING
from posjax.probes.profiles import CELLS, RINGS, error_cells, ring_means, ring_spc
from posjax.probes.readout import Aligned, Stages
from posjax.runs import parallel, progress, targets
from posjax.runs.features import Features
from posjax.runs.grid import over_readouts
from posjax.runs.records import Scores


def score(
    readout: Readout,
    variables: Any,
    features: Features,
    stages: Sequence[str],
    tasks: Sequence[Task],
    *,
    batch_size: int = 32,
    rounding: float = ROUNDING,
    devices: Sequence[jax.Device],
) -> Scores:
    """Scores of every readout on every image, whichever host has it.

    A prediction that varies by no more than `rounding` has no SPC, see `spc`. `features` and
    `devices` are this host's; every host must call this.
    """
    goals = np.stack([task_map(task, readout.map_size) for task in tasks])
    # Maps of fewer pixels than cells have no profile.
    located = min(readout.map_size) >= CELLS
    own_targets = tuple(targets.per_image(tasks))
    step = _score_step(readout, own_targets, located, rounding, tuple(devices))
    variables, goals = parallel.replicate((variables, goals), devices)
    nothing = np.zeros((len(tasks), 0), np.float32)  # what a host without images has
    no_rings = np.zeros((len(tasks), 0, RINGS), np.float32)
    scores, ring_errors = [(nothing, nothing, no_rings)], [no_rings]
    errors = np.zeros((len(tasks), CELLS, CELLS))
    batch_size = -(-batch_size // parallel.hosts())
    with progress.bar(len(features), f"score {len(tasks)}", "images") as bar:
        starts = range(0, len(features), batch_size)
        orders = [np.arange(start, min(start + batch_size, len(features))) for start in starts]
        for rows, stage_rows in zip(orders, features.stream(orders, stages), strict=True):
            batch = stage_rows, targets.permutations_of(readout, tasks, parallel.numbers(rows))
            (shards, permutations), _ = parallel.split(batch, batch_size, devices)
            found = step(variables, goals, shards, permutations)
            *values, of_cells = parallel.join(found, len(rows), axis=1)
            scores.append(tuple(values))
            ring_errors.append(ring_means(of_cells))
            errors += of_cells.sum(axis=1, dtype=np.float64)
            progress.advance(bar, len(rows))
    own = [np.concatenate(values, axis=1) for values in zip(*scores, strict=True)]
    own.append(np.concatenate(ring_errors, axis=1))
    spcs, maes, ring_spcs, ring_maes = (parallel.collect(values, axis=1) for values in own)
    if not located:
        return Scores(spcs, maes)
    error = sum(parallel.from_all(errors)) / spcs.shape[1]
    return Scores(spcs, maes, ring_spcs, ring_maes, error.astype(np.float32))


def predict(
    readout: Readout, variables: Any, batch: dict[str, np.ndarray]
) -> Float[np.ndarray, "r n h w"]:
    """The maps that every readout predicts on one batch of stages."""
    return jax.device_get(_predict_step(readout)(variables, batch))


def score_step(
    readout: Readout, own_targets: tuple[int, ...], located: bool, rounding: float = ROUNDING
) -> Callable:
    """The step that scores r readouts on n images.

    It maps (variables, maps [r, h, w], stages, permutations [n, pixels]) to SPC [r, n], MAE
    [r, n], SPC in rings [r, n, RINGS] and errors in cells [r, n, CELLS, CELLS], the last two of
    zeros unless `located`. `rounding` is as for `score`. The permutations are those of the readouts
    that `own_targets` names, see `targets.permutations_of`.
    """

    def score_readouts(
        variables: Any,
        goals: Float[Array, "r h w"],
        stages: Stages,
        permutations: Int[Array, "n m"],
    ) -> tuple[Array, ...]:
        def one(args: tuple[Array, Array, Array]) -> tuple[Array, ...]:
            response, goal, has_own = args
            prediction = readout.upsample(response)
            if own_targets:
                back = functools.partial(targets.put_back, permutations=permutations)
                prediction = lax.cond(has_own, back, lambda same: same, prediction)
            whole = spc(prediction, goal, rounding), mae(prediction, goal)
            if located:
                return *whole, ring_spc(prediction, goal, rounding), error_cells(prediction, goal)
            n = len(prediction)
            return *whole, jnp.zeros((n, RINGS)), jnp.zeros((n, CELLS, CELLS))

        responses = _respond(readout, variables, readout.align(stages))
        has_own = jnp.isin(jnp.arange(len(goals)), jnp.array(own_targets, int))
        # One readout at a time: full-size maps of all of them would fill the memory.
        return lax.map(one, (responses, goals, has_own))

    return score_readouts


def predict_step(readout: Readout) -> Callable:
    """The step that maps (variables, stages) to the maps that r readouts predict, [r, n, h, w]."""

    def predict_maps(variables: Any, stages: Stages) -> Float[Array, "r n h w"]:
        responses = _respond(readout, variables, readout.align(stages))
        return jax.vmap(readout.upsample)(responses)

    return predict_maps


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _score_step(
    readout: Readout,
    own_targets: tuple[int, ...],
    located: bool,
    rounding: float,
    devices: tuple[jax.Device, ...],
) -> Callable:
    return parallel.pmap(score_step(readout, own_targets, located, rounding), devices)


@functools.cache
def _predict_step(readout: Readout) -> Callable:
    return jax.jit(predict_step(readout))


def _respond(readout: Readout, variables: Any, aligned: Aligned) -> Float[Array, "r n h w"]:
    return over_readouts(readout, lambda v: readout.apply(v, aligned, method="respond"))(variables)
