"""Many readouts of one architecture, scored at once on one read of the features."""

import functools
from collections.abc import Callable, Sequence
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
    `devices` are those of this host; every host must call this.
    """
    readout, tasks, count = readouts.readout, readouts.tasks, len(features)
    step = _compiled(readout, control_targets.per_image(tasks), rounding, tuple(devices))
    goals = control_targets.task_maps(readout, tasks)
    variables, goals = runtime.replicate((variables, goals), devices)
    size = -(-batch_size // runtime.hosts())
    # A host without images scores an empty batch.
    starts = range(0, max(count, 1), size)
    batches = [np.arange(start, min(start + size, count)) for start in starts]
    parts, errors = [], np.zeros((len(readouts), CELLS, CELLS))
    with progress.bar(count, f"score {len(readouts)}", "images") as bar:
        for rows, stages in zip(batches, features.stream(batches, readouts.stages), strict=True):
            images = runtime.global_indices(rows)
            orders = control_targets.permutations_of(readout, tasks, images)
            shards, _ = runtime.shard_batch((stages, orders), size, devices)
            scored = step(variables, goals, *shards)
            *scores, cells = runtime.unshard(scored, len(rows), axis=1)
            parts.append((*scores, ring_means(cells)))
            errors += cells.sum(axis=1, dtype=np.float64)
            progress.advance(bar, len(rows))
    local = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    spcs, maes, ring_spcs, ring_maes = (runtime.gather_rows(values, axis=1) for values in local)
    if not _has_profile(readout):
        return Scores(spcs, maes)
    error = cast(np.ndarray, sum(runtime.all_gather_object(errors))) / features.total
    return Scores(spcs, maes, ring_spcs, ring_maes, error.astype(np.float32))


def predict(
    readout: Readout, variables: Any, batch: dict[str, np.ndarray]
) -> Float[np.ndarray, "r n h w"]:
    """The maps that r readouts predict on one batch of stages."""
    return jax.device_get(predict_maps(readout, variables, batch))


@functools.partial(jax.jit, static_argnums=0)
def predict_maps(readout: Readout, variables: Any, stages: Stages) -> Float[Array, "r n h w"]:
    """The compiled part of `predict`."""
    responses = _respond(readout, variables, readout.align(stages))
    return jax.vmap(readout.upsample)(responses)


def score_step(
    readout: Readout, per_image: tuple[int, ...], rounding: float = ROUNDING
) -> Callable:
    """The step that scores r readouts on n images.

    It maps (variables, maps [r, h, w], stages, permutations [n, pixels]) to SPC [r, n], MAE
    [r, n], SPC in rings [r, n, RINGS] and errors in cells [r, n, CELLS, CELLS]. The last two are
    zeros where maps have fewer pixels than cells. The permutations are those of the readouts
    `per_image`, see `control_targets.permutations_of`.
    """

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
            if _has_profile(readout):
                return *whole, ring_spc(prediction, goal, rounding), error_cells(prediction, goal)
            n = len(prediction)
            return (
                *whole,
                jnp.zeros((n, RINGS), jnp.float32),
                jnp.zeros((n, CELLS, CELLS), jnp.float32),
            )

        responses = _respond(readout, variables, readout.align(stages))
        shuffled = jnp.isin(jnp.arange(len(goals)), jnp.array(per_image, int))
        # One readout at a time: full-size maps of all of them would fill the memory.
        return lax.map(one, (responses, goals, shuffled))

    return score_readouts


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _compiled(
    readout: Readout,
    per_image: tuple[int, ...],
    rounding: float,
    devices: tuple[jax.Device, ...],
) -> Callable:
    return runtime.pmap(score_step(readout, per_image, rounding), devices)


def _has_profile(readout: Readout) -> bool:
    return min(readout.map_size) >= CELLS


def _respond(readout: Readout, variables: Any, aligned: Aligned) -> Float[Array, "r n h w"]:
    return over_readouts(readout, lambda v: readout.apply(v, aligned, method="respond"))(variables)
