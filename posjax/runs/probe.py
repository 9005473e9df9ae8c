"""A probe: one frozen encoder, many readouts trained on its stages, and what they score."""

import contextlib
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from posjax.images import Source, select
from posjax.probes.controls import Task
from posjax.runs import parallel
from posjax.runs.features import Features, encode
from posjax.runs.frozen import FrozenEncoder
from posjax.runs.groups import FEATURE_SIZE, TRAINING, measure_group
from posjax.runs.records import Record, Result, to_records
from posjax.runs.settings import Recipe
from posjax.runs.waits import Waits
from posjax.runs.workdir import Workdir


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

    Every image passes through the encoder once. Where the encoder has `margins`, images must be so
    much larger than the part of them that is probed. An encoder with random weights stands for its
    own seed alone, in place of the recipe's; readouts in closed form have no others. Without
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
    tasks: Sequence[Task] | None = None,
    control: str = "",
    cache_dir: Path | None,
    cache_limit_gb: float | None = None,
    devices: Sequence[jax.Device],
    workdir: Workdir | None = None,
    waits: Waits | None = None,
) -> Iterator[Result]:
    """As `probe`: one result for each group of readouts, as soon as it is there.

    Readouts draw `tasks`, the position maps before their controls, by default the recipe's position
    maps alone; `control` says what the results
    are a control by, if they are one.

    With a workdir, groups whose results it holds are read from it, and unfinished training goes
    on from its checkpoint. Of several hosts each encodes its share of the images, and only the
    first reads and writes the workdir, but for the features. `waits` counts the time of encoding.
    """
    tasks = [Task(name) for name in recipe.maps] if tasks is None else tasks
    groups = {_group(encoder, *shape, recipe.solver, control): shape for shape in recipe.shapes()}
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
            how = (directory, cache_limit_gb, recipe, devices, waits)
            features = {
                name: _encode_share(encoder, source, *how) for name, source in sources.items()
            }
        for group, shape in groups.items():
            result = found[group]
            if result is None:
                sources = {TRAINING: images, **test_images}
                result = measure_group(
                    encoder,
                    group,
                    shape,
                    sources,
                    features,
                    recipe,
                    tasks,
                    control,
                    devices,
                    workdir,
                )
                if workdir and parallel.is_first():
                    workdir.keep(group, result)
            yield result


def _encode_share(
    encoder: FrozenEncoder,
    source: Source,
    directory: Path,
    cache_limit_gb: float | None,
    recipe: Recipe,
    devices: Sequence[jax.Device],
    waits: Waits | None,
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
            waits=waits,
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
    control: str,
) -> str:
    # By their digest, and by what the results call them: two names may be of one file.
    weights = f"{encoder.digest[:8]}-{zlib.crc32(encoder.weights.encode()):08x}"
    if encoder.weights == "random":
        weights = f"seed{encoder.seed}"
    return (
        f"{encoder.name}-{weights}-{encoder.padding}-{stages}"
        f"-depth{depth}-kernel{kernel_size}-padding{readout_padding}"
        f"{'' if solver == 'sgd' else f'-{solver}'}{f'-{control}' if control else ''}"
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
