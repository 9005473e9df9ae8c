"""A group: the readouts of one shape on one encoder, fitted and scored together."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from posjax.images import Source, read_pixels
from posjax.probes import LinearReadout, Readout
from posjax.probes.controls import Task
from posjax.probes.metrics import rounding_of
from posjax.runs import closed_form, grid, parallel, scoring
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.features import Features
from posjax.runs.frozen import FrozenEncoder
from posjax.runs.records import Gallery, PenaltyPath, Probe, Result
from posjax.runs.rounding import matmul_precision, rounding_step
from posjax.runs.settings import Recipe
from posjax.runs.workdir import Workdir

FEATURE_SIZE = (28, 28)
SHOWN = 4
TRAINING = None  # the key of the training images among all sources, whose names are words


def measure_group(
    encoder: FrozenEncoder,
    group: str,
    shape: tuple[str, int, int, int],
    sources: Mapping[str | None, Source],
    features: Mapping[str | None, Features],
    recipe: Recipe,
    tasks: Sequence[Task],
    control: str,
    devices: Sequence[jax.Device],
    workdir: Workdir | None,
) -> Result:
    """Fits the readouts of one shape (stages, depth, kernel size, padding), and scores them.

    `sources` and `features` are those of the training images, under `TRAINING`, and of each set of
    test images. `group` names the readouts' folders in the workdir, if there is one.
    """
    training = features[TRAINING]
    stages = stage_names(shape[0], tuple(training.stages))
    size = parallel.from_first(lambda: sources[TRAINING][0].shape[0]) - sum(encoder.margins)
    linear = recipe.solver == "ridge"
    kind = LinearReadout if linear else Readout
    readout = kind(*shape[1:], feature_size=FEATURE_SIZE, map_size=(size, size))
    pairs = list(itertools.product(tasks, _seeds(encoder, recipe)))
    tasks, seeds = zip(*pairs, strict=True)
    common = {"batch_size": recipe.batch_size, "devices": devices}
    path = None
    with contextlib.ExitStack() as stack:
        checkpoints = log = None
        if workdir and parallel.is_first():
            checkpoints = stack.enter_context(Checkpoints(workdir.checkpoints(group)))
        if workdir and parallel.is_first() and not linear:
            log = stack.enter_context(workdir.log(group, pairs))
        if linear:
            ridge = closed_form.fit(
                readout, training, stages, tasks, checkpoints=checkpoints, **common
            )
            variables, losses = ridge.variables, ridge.error[None].astype(np.float32)
            path = PenaltyPath(ridge.penalties, ridge.held_out, ridge.penalty)
        else:
            variables, losses = grid.train(
                readout,
                training,
                stages,
                tasks,
                seeds,
                epochs=recipe.epochs,
                learning_rate=recipe.learning_rate,
                checkpoints=checkpoints,
                log=log,
                **common,
            )
    firsts = np.array([tasks.index(Task(name)) for name in recipe.maps])
    first = jax.tree.map(lambda array: array[firsts], variables)
    tests = {name: source for name, source in sources.items() if name is not TRAINING}
    common["rounding"] = rounding_of(
        rounding_step(encoder.dtype, devices[0].platform, matmul_precision())
    )
    return Result(
        probe=Probe(
            encoder.name,
            encoder.weights,
            encoder.padding,
            "+".join(stages),
            *shape[1:],
            recipe.solver,
            control,
        ),
        tasks=tasks,
        seeds=seeds,
        map_size=size,
        losses=losses,
        scores={
            name: scoring.score(readout, variables, features[name], stages, tasks, **common)
            for name in tests
        },
        galleries={
            name: _gallery(readout, first, source, encoder.margins[0], features[name], stages)
            for name, source in tests.items()
        },
        path=path,
    )


def _seeds(encoder: FrozenEncoder, recipe: Recipe) -> tuple[int | None, ...]:
    if encoder.seed is not None:
        return (encoder.seed,)
    return (None,) if recipe.solver == "ridge" else recipe.seeds


def _gallery(
    readout: Readout,
    variables: Any,
    source: Source,
    before: int,
    features: Features,
    stages: Sequence[str],
) -> Gallery:
    """The probed part of images begins `before` pixels from their top and left."""
    own = parallel.own(np.arange(min(SHOWN, len(source))))
    predictions = parallel.collect(
        scoring.predict(readout, variables, features.rows(own, stages)), axis=1
    )
    height, width = readout.map_size
    probed = slice(before, before + height), slice(before, before + width)
    images = [read_pixels(source, i)[probed] for i in parallel.numbers(own)]
    # A host without any has an array of none.
    images = parallel.collect(np.array(images, np.uint8).reshape(-1, height, width, 3))
    return Gallery(images, np.rint(np.clip(predictions, 0, 1) * 255).astype(np.uint8))


def stage_names(stages: str, available: Sequence[str]) -> tuple[str, ...]:
    """The stages that "f1+f3" or "all" names, in order.

    Raises:
        ValueError: a stage that is not available, or named twice.
    """
    names = tuple(available) if stages == "all" else tuple(stages.split("+"))
    for name in names:
        if name not in available or names.count(name) > 1:
            raise ValueError(
                f"--stages: {stages!r} must be 'all' or different stages of "
                f"{', '.join(available)} joined by '+'"
            )
    return tuple(sorted(names))
