"""One encoder: its features are computed once, then readouts are fitted to them and scored."""

import contextlib
import dataclasses
import itertools
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from posjax import runtime
from posjax.encoders import RANDOM, Encoder
from posjax.features import EncodingOptions, Features, Store, encode
from posjax.fitting import FEATURE_SIZE, Readouts, ReadoutSpec, predict, score
from posjax.images import read_pixels
from posjax.probes.controls import Task
from posjax.probes.metrics import rounding_of
from posjax.results import Gallery, ProbeSpec, Result
from posjax.runs.image_sets import ImageSets
from posjax.runs.readout_settings import ReadoutSettings
from posjax.runs.workdir import Workdir
from posjax.runtime import Waits

_LONGEST = 180  # characters of a file's name, less its ending
SHOWN = 4  # test images in a gallery


@dataclasses.dataclass(frozen=True)
class Probe:
    """An encoder, images and the targets that readouts are fitted to.

    `size` is the side of the maps, and of the part of the images that is probed, pixels. `tasks`
    are the targets, position maps first. `control` names the control condition, or is empty.
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
        name = runtime.encodable(encoder.weights)
        weights = f"{encoder.digest[:8]}-{zlib.crc32(name.encode()):08x}"
        if encoder.weights == RANDOM:
            weights = f"seed{encoder.seed}"
        key = (
            f"{about.encoder}-{weights}-{about.padding}-{about.stages}-depth{about.depth}"
            f"-kernel{about.kernel_size}-padding{about.readout_padding}"
            f"{'' if solver == 'sgd' else f'-{solver}'}{f'-{self.control}' if self.control else ''}"
        )
        # A network of the user's own has the name of its file, and long names of layers.
        name = re.sub(r"[^\w+=.@:-]", "_", key)
        if name == key and len(name) <= _LONGEST:
            return key
        return f"{name[:_LONGEST]}-{zlib.crc32(key.encode()):08x}"


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a run computes with: this host's devices, where features are kept, and timers."""

    devices: Sequence[jax.Device]
    store: Store
    waits: Waits = dataclasses.field(default_factory=Waits)


def measure(
    probe: Probe,
    settings: ReadoutSettings,
    resources: Resources,
    workdir: Workdir | None = None,
) -> Iterator[Result]:
    """Fits readouts of every architecture and scores them; yields one result for each.

    Every image passes through the encoder once. Results that the workdir holds are read from it. In
    a multi-host run every host must call this; only the first reads and writes the workdir.

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
    features: list[Features] = []
    for spec, key, result in zip(specs, keys, done, strict=True):
        if result is None:
            features = features or _encode(probe, settings, resources)
            result = _fit_and_score(probe, spec, features, settings, resources, workdir)
            if workdir and runtime.is_first():
                workdir.keep(key, result)
        yield result
    # A run that stopped before this finds the features again.
    if features and resources.store.scratch is not None:
        shutil.rmtree(resources.store.scratch, ignore_errors=True)


def _encode(probe: Probe, settings: ReadoutSettings, resources: Resources) -> list[Features]:
    """The features of the training images, and of each set of test images."""
    runtime.check_same({"encoder": probe.encoder.fingerprint(), "images": probe.sets.digests})
    batch_size = -(-settings.batch_size // runtime.hosts())
    options = EncodingOptions(resources.devices, batch_size, settings.feature_dtype, FEATURE_SIZE)
    return [
        encode(probe.encoder, source, probe.size, resources.store, options, resources.waits)
        for source in (probe.sets.train, *probe.sets.tests.values())
    ]


def _fit_and_score(
    probe: Probe,
    spec: ReadoutSpec,
    features: Sequence[Features],
    settings: ReadoutSettings,
    resources: Resources,
    workdir: Workdir | None,
) -> Result:
    encoder, devices, solver = probe.encoder, resources.devices, settings.solver
    train, tests = features[0], dict(zip(probe.sets.tests, features[1:], strict=True))
    pairs = list(itertools.product(probe.tasks, settings.seeds_of(encoder.seed)))
    readout = spec.readout(probe.size, linear=solver == "ridge")
    readouts = Readouts(readout, spec.stages, *zip(*pairs, strict=True))
    with contextlib.ExitStack() as stack:
        how = {}
        if workdir and runtime.is_first() and solver == "sgd":
            how["log"] = stack.enter_context(workdir.log(probe.key(spec, solver), readouts))
        fitted = settings.fitter.fit(readouts, train, devices, **how)
    step = runtime.rounding_step(encoder.dtype, devices[0].platform, runtime.matmul_precision())
    scores, galleries = {}, {}
    for name, test in tests.items():
        variables = fitted.variables
        scores[name] = score(
            readouts,
            variables,
            test,
            devices,
            batch_size=settings.batch_size,
            rounding=rounding_of(step),
        )
        galleries[name] = _gallery(probe, readouts, variables, name, test)
    return Result(
        probe=probe.describe(spec, solver),
        tasks=readouts.tasks,
        seeds=readouts.seeds,
        map_size=probe.size,
        losses=fitted.losses,
        scores=scores,
        galleries=galleries,
        path=fitted.path,
    )


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
