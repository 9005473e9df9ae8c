"""One encoder: its features are computed once, then readouts are fitted to them and scored."""

import contextlib
import dataclasses
import itertools
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from posjax import runtime
from posjax.encoders import RANDOM, Encoder
from posjax.features import EncodingOptions, Features, Store, encode
from posjax.fitting import FEATURE_SIZE, Readouts, ReadoutSpec, predict, score
from posjax.images import Source, read_pixels
from posjax.probes.controls import Task
from posjax.probes.metrics import rounding_of
from posjax.results import Gallery, ProbeSpec, Result
from posjax.runs.image_sets import ImageSets
from posjax.runs.readout_settings import ReadoutSettings
from posjax.runs.workdir import Workdir
from posjax.runtime import Waits

SHOWN = 4  # test images in a gallery


@dataclasses.dataclass(frozen=True)
class Probe:
    """What readouts are asked of one encoder.

    `size` is the side of the part of the images that is probed, and of the maps, pixels. `tasks`
    are the targets to fit, position maps first. `control` is the name of the control condition, or
    empty.
    """

    encoder: Encoder
    sets: ImageSets
    size: int
    tasks: tuple[Task, ...]
    control: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the encoder's stages."""
        return tuple(self.encoder.stage_shapes(self.size))

    def describe(self, spec: ReadoutSpec, solver: str) -> ProbeSpec:
        """The columns of the results that these readouts have in common."""
        return ProbeSpec(
            self.encoder.name,
            self.encoder.weights,
            self.encoder.padding_text,
            "+".join(spec.stages),
            spec.depth,
            spec.kernel_size,
            spec.padding,
            solver,
            self.control,
        )

    def key(self, spec: ReadoutSpec, solver: str) -> str:
        """A name for the files of these readouts."""
        encoder, about = self.encoder, self.describe(spec, solver)
        # By their digest, and by what the results call them: two names may be of one file.
        weights = f"{encoder.digest[:8]}-{zlib.crc32(encoder.weights.encode()):08x}"
        if encoder.weights == RANDOM:
            weights = f"seed{encoder.seed}"
        return (
            f"{about.encoder}-{weights}-{about.padding}-{about.stages}-depth{about.depth}"
            f"-kernel{about.kernel_size}-padding{about.readout_padding}"
            f"{'' if solver == 'sgd' else f'-{solver}'}{f'-{self.control}' if self.control else ''}"
        )


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a run computes with: this host's devices, where features are kept, and timers."""

    devices: Sequence[jax.Device]
    store: Store
    waits: Waits = dataclasses.field(default_factory=Waits)


@dataclasses.dataclass(frozen=True)
class FeatureSets:
    """The features of the training images, and of each set of test images."""

    train: Features
    tests: Mapping[str, Features]


def measure(
    probe: Probe,
    settings: ReadoutSettings,
    resources: Resources,
    workdir: Workdir | None = None,
) -> Iterator[Result]:
    """Fits readouts of every architecture and scores them: one result for each, as it is there.

    Every image passes through the encoder once. With a workdir, results that it holds are read from
    it. In a multi-host run every host must call this; each encodes its share of the images, and
    only the first reads and writes the workdir.

    Raises:
        ValueError: stages that the encoder lacks, readouts that leave nothing of the features,
            images that cannot be read, features on disk that are damaged, hosts that do not probe
            the same.
        OSError: there is no room for features, or they were deleted while they were written.
        FloatingPointError: a loss is not finite.
    """
    specs = list(settings.specs(probe.stages))
    keys = [probe.key(spec, settings.solver) for spec in specs]
    done = runtime.broadcast_object(lambda: [workdir and workdir.result(key) for key in keys])
    features = None
    for spec, key, result in zip(specs, keys, done, strict=True):
        if result is None:
            features = features or _encode(probe, settings, resources)
            result = _fit_and_score(probe, spec, features, settings, resources, workdir)
            if workdir and runtime.is_first():
                workdir.keep(key, result)
        yield result
    # A run that stopped before this finds the features again.
    scratch = resources.store.scratch
    if features and scratch is not None and scratch.exists():
        shutil.rmtree(scratch)


def _encode(probe: Probe, settings: ReadoutSettings, resources: Resources) -> FeatureSets:
    runtime.check_same({"encoder": probe.encoder.fingerprint(), "images": probe.sets.digests})
    options = EncodingOptions(
        resources.devices,
        -(-settings.batch_size // runtime.hosts()),
        settings.feature_dtype,
        FEATURE_SIZE,
    )
    store, waits = resources.store, resources.waits

    def features(source: Source) -> Features:
        return encode(probe.encoder, source, probe.size, store, options, waits)

    train = features(probe.sets.train)
    return FeatureSets(train, {k: features(source) for k, source in probe.sets.tests.items()})


def _fit_and_score(
    probe: Probe,
    spec: ReadoutSpec,
    features: FeatureSets,
    settings: ReadoutSettings,
    resources: Resources,
    workdir: Workdir | None,
) -> Result:
    encoder, devices, solver = probe.encoder, resources.devices, settings.solver
    pairs = list(itertools.product(probe.tasks, _seeds(encoder, settings)))
    readout = spec.readout(probe.size, linear=solver == "ridge")
    readouts = Readouts(readout, spec.stages, *zip(*pairs, strict=True))
    with contextlib.ExitStack() as stack:
        how = {}
        if workdir and runtime.is_first() and solver == "sgd":
            how["log"] = stack.enter_context(workdir.log(probe.key(spec, solver), readouts))
        fitted = settings.fitter.fit(readouts, features.train, devices, **how)
    step = runtime.rounding_step(encoder.dtype, devices[0].platform, runtime.matmul_precision())
    return Result(
        probe=probe.describe(spec, solver),
        tasks=readouts.tasks,
        seeds=readouts.seeds,
        map_size=probe.size,
        losses=fitted.losses,
        scores={
            name: score(
                readouts,
                fitted.variables,
                test,
                devices,
                batch_size=settings.batch_size,
                rounding=rounding_of(step),
            )
            for name, test in features.tests.items()
        },
        galleries={
            name: _gallery(probe, readouts, fitted.variables, name, test)
            for name, test in features.tests.items()
        },
        path=fitted.path,
    )


def _seeds(encoder: Encoder, settings: ReadoutSettings) -> tuple[int | None, ...]:
    if encoder.seed is not None:
        return (encoder.seed,)
    return (None,) if settings.solver == "ridge" else settings.seeds


def _gallery(
    probe: Probe, readouts: Readouts, variables: Any, name: str, features: Features
) -> Gallery:
    """The first test images, and what the first seed's readout of each map predicts on them."""
    maps = [i for i, task in enumerate(readouts.tasks) if not task.control]
    firsts = np.array([i for i in maps if readouts.tasks.index(readouts.tasks[i]) == i])
    first = jax.tree.map(lambda array: array[firsts], variables)
    source, before = probe.sets.tests[name], probe.encoder.margins[0]
    local = runtime.local_indices(np.arange(min(SHOWN, len(source))))
    predictions = predict(readouts.readout, first, features.rows(local, readouts.stages))
    probed = slice(before, before + probe.size)
    images = [read_pixels(source, i)[probed, probed] for i in runtime.global_indices(local)]
    # A host without images has an array of none.
    images = np.array(images, np.uint8).reshape(-1, probe.size, probe.size, 3)
    return Gallery(
        runtime.gather_rows(images),
        np.rint(np.clip(runtime.gather_rows(predictions, axis=1), 0, 1) * 255).astype(np.uint8),
    )
