"""A probe: one frozen encoder, many readouts trained on its stages, and what they score."""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax.images import Source, select
from posjax.probes import LinearReadout, Readout
from posjax.runs import closed_form, grid, parallel
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.features import Features, encode
from posjax.runs.frozen import FrozenEncoder
from posjax.runs.records import (
    Gallery,
    PenaltyPath,
    Probe,
    Record,
    Result,
    Scores,
    to_records,
)
from posjax.runs.settings import Recipe
from posjax.runs.workdir import Workdir

FEATURE_SIZE = (28, 28)
SHOWN = 4
TRAINING = None  # the key of the training images among all sources, whose names are words


def probe(
    encoder: FrozenEncoder,
    images: Source,
    test_images: Mapping[str, Source],
    recipe: Recipe | None = None,
    *,
    cache_dir: Path | None = None,
    cache_limit_gb: float | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> list[Record]:
    """Fits readouts to the stages of `images` and scores them on each set of `test_images`.

    Every image passes through the encoder once. An encoder with random weights stands for its own
    seed alone, in place of the recipe's; readouts in closed form have no others. Without
    `cache_dir` the features are deleted at the end. Features that would take more than
    `cache_limit_gb` (1e9 bytes), counted with all that `cache_dir` holds, are not stored, but
    encoded anew for each batch. By default `recipe` is the paper's, and `devices` are all local
    ones. Of several hosts (`parallel.joined`) each must call this; all get all records.

    Raises:
        ValueError: stages that the encoder lacks, readouts that leave nothing of the features,
            images that cannot be read, features in `cache_dir` that are damaged, hosts that do not
            probe the same.
        OSError: there is no room for features, or they were deleted while they were written.
        FloatingPointError: a loss is not finite.
    """
    recipe = Recipe() if recipe is None else recipe
    devices = parallel.local_devices() if devices is None else devices
    parallel.check_same({"recipe": recipe})
    results = measure(
        encoder,
        images,
        test_images,
        recipe,
        cache_dir=cache_dir,
        cache_limit_gb=cache_limit_gb,
        devices=devices,
    )
    return [record for result in results for record in to_records(result)]


def measure(
    encoder: FrozenEncoder,
    images: Source,
    test_images: Mapping[str, Source],
    recipe: Recipe,
    *,
    cache_dir: Path | None,
    cache_limit_gb: float | None = None,
    devices: Sequence[jax.Device],
    workdir: Workdir | None = None,
) -> Iterator[Result]:
    """As `probe`: one result for each group of readouts, as soon as it is there.

    With a workdir, groups whose results it holds are read from it, and unfinished training goes
    on from its checkpoint. Of several hosts each encodes its share of the images, and only the
    first reads and writes the workdir, but for the features.
    """
    groups = {_group(encoder, *shape, recipe.solver): shape for shape in recipe.shapes()}
    found = parallel.from_first(
        lambda: {group: workdir.result(group) if workdir else None for group in groups}
    )
    with contextlib.ExitStack() as stack:
        features: dict[str | None, Features] = {}
        directory = cache_dir or stack.enter_context(_scratch(workdir))
        if not all(found.values()):
            sources = {TRAINING: images, **test_images}
            digests = {name: source.digest() for name, source in sources.items()}
            parallel.check_same({"encoder": encoder.identity(), "images": digests})
            features = {
                name: _encode_share(encoder, source, directory, cache_limit_gb, recipe, devices)
                for name, source in sources.items()
            }
        for group, shape in groups.items():
            result = found[group]
            if result is None:
                sources = {TRAINING: images, **test_images}
                result = _measure_group(
                    encoder, group, shape, sources, features, recipe, devices, workdir
                )
                if workdir and parallel.is_first():
                    workdir.keep(group, result)
            yield result


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


def _encode_share(
    encoder: FrozenEncoder,
    source: Source,
    directory: Path,
    cache_limit_gb: float | None,
    recipe: Recipe,
    devices: Sequence[jax.Device],
) -> Features:
    """The features of this host's images."""
    own = select(source, parallel.share(len(source)))
    features = None
    if len(own):
        features = encode(
            encoder,
            own,
            directory,
            feature_size=FEATURE_SIZE,
            dtype=recipe.feature_dtype,
            batch_size=-(-recipe.batch_size // parallel.hosts()),
            devices=devices,
            limit_bytes=None if cache_limit_gb is None else int(cache_limit_gb * 1e9),
        )
    if len(source) < parallel.hosts():
        # The first host has an image in any case, and tells the others what stages look like.
        empty = parallel.from_first(
            lambda: {k: np.zeros((0, *a.shape[1:]), a.dtype) for k, a in features.stages.items()}
        )
        features = Features(empty) if features is None else features
    return features


def _group(
    encoder: FrozenEncoder,
    stages: str,
    depth: int,
    kernel_size: int,
    readout_padding: int,
    solver: str,
) -> str:
    weights = f"seed{encoder.seed}" if encoder.weights == "random" else encoder.digest[:8]
    return (
        f"{encoder.name}-{weights}-{encoder.padding}-{stages}"
        f"-depth{depth}-kernel{kernel_size}-padding{readout_padding}"
        f"{'' if solver == 'sgd' else f'-{solver}'}"
    )


def _measure_group(
    encoder: FrozenEncoder,
    group: str,
    shape: tuple[str, int, int, int],
    sources: Mapping[str | None, Source],
    features: Mapping[str | None, Features],
    recipe: Recipe,
    devices: Sequence[jax.Device],
    workdir: Workdir | None,
) -> Result:
    training = features[TRAINING]
    stages = stage_names(shape[0], tuple(training.stages))
    size = parallel.from_first(lambda: sources[TRAINING][0].shape[0])
    linear = recipe.solver == "ridge"
    kind = LinearReadout if linear else Readout
    readout = kind(*shape[1:], feature_size=FEATURE_SIZE, map_size=(size, size))
    pairs = list(itertools.product(recipe.maps, _seeds(encoder, recipe)))
    maps, seeds = zip(*pairs, strict=True)
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
                readout, training, stages, maps, checkpoints=checkpoints, **common
            )
            variables, losses = ridge.variables, ridge.error[None].astype(np.float32)
            path = PenaltyPath(ridge.penalties, ridge.held_out, ridge.penalty)
        else:
            variables, losses = grid.train(
                readout,
                training,
                stages,
                maps,
                seeds,
                epochs=recipe.epochs,
                learning_rate=recipe.learning_rate,
                checkpoints=checkpoints,
                log=log,
                **common,
            )
    firsts = np.array([maps.index(name) for name in recipe.maps])
    first = jax.tree.map(lambda array: array[firsts], variables)
    tests = {name: source for name, source in sources.items() if name is not TRAINING}
    return Result(
        probe=Probe(
            encoder.name,
            encoder.weights,
            encoder.padding,
            "+".join(stages),
            *shape[1:],
            recipe.solver,
        ),
        maps=maps,
        seeds=seeds,
        map_size=size,
        losses=losses,
        scores={
            name: Scores(*grid.score(readout, variables, features[name], stages, maps, **common))
            for name in tests
        },
        galleries={
            name: _gallery(readout, first, source, features[name], stages)
            for name, source in tests.items()
        },
        path=path,
    )


def _seeds(encoder: FrozenEncoder, recipe: Recipe) -> tuple[int | None, ...]:
    if encoder.seed is not None:
        return (encoder.seed,)
    return (None,) if recipe.solver == "ridge" else recipe.seeds


def _gallery(
    readout: Readout, variables: Any, source: Source, features: Features, stages: Sequence[str]
) -> Gallery:
    shown = np.arange(min(SHOWN, len(source)))
    own = grid.predict(readout, variables, features.rows(parallel.own(shown), stages))
    predictions = parallel.collect(own, axis=1)
    images = parallel.from_first(lambda: np.stack([source[int(i)] for i in shown]))
    return Gallery(
        *(np.rint(np.clip(a, 0, 1) * 255).astype(np.uint8) for a in (images, predictions))
    )


@contextlib.contextmanager
def _scratch(workdir: Workdir | None) -> Iterator[Path]:
    """A folder for features that need not last; a killed run finds those that it had finished."""
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="posjax-features-") as directory:
            yield Path(directory)
    else:
        yield workdir.features(parallel.host())
        workdir.remove_features(parallel.host(), parallel.hosts())
