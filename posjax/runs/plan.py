"""The plan: what a run will do, how much of it, and what room it takes, before work starts."""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import cached_property

import jax

from posjax import encoders, runtime
from posjax.encoders import RANDOM
from posjax.features import EncodingOptions, disk_usage, layout_bytes
from posjax.fitting import FEATURE_SIZE, ReadoutSpec, closed_form
from posjax.layers import InputTooSmall
from posjax.runs.conditions import (
    Condition,
    TrainedWeights,
    conditions,
    read_trained_weights,
    tasks,
)
from posjax.runs.image_sets import ImagePlan, ImageSets, open_sets
from posjax.runs.memory import Shapes, needs
from posjax.runs.settings import Settings


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One image set that passes through one encoder.

    `size` is the room of its features in bytes, `reads` how often fitting and scoring read them.
    They are `kept`, or do not fit within `cache_limit_gb` and are encoded for each read.
    """

    images: int
    size: int
    reads: int
    kept: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will do. `str` gives one line for each thing worth knowing."""

    settings: Settings
    conditions: Sequence[Condition]
    sets: ImageSets
    devices: Sequence[jax.Device]
    weights: TrainedWeights

    @cached_property
    def about(self) -> dict[str, object]:
        """What config.json says beside the settings: digests, statistics and devices."""
        settings = self.settings
        return {
            "preset": settings.preset,
            "cache_dir": settings.cache_dir and str(settings.cache_dir),
            "weight_digests": self.weights.digests,
            "image_digests": self.sets.digests,
            "normalize": self.weights.statistics,
            "devices": runtime.describe_devices(self.devices),
        }

    @property
    def notes(self) -> list[str]:
        """What a reader should know of images and weights."""
        return [*self.sets.notes(str(self.settings.images)), *self.weights.notes]

    @cached_property
    def images(self) -> ImagePlan:
        """The images that the run makes."""
        settings = self.settings
        folder = settings.cache_dir or settings.workdir
        return ImagePlan(dict.fromkeys(self._sides, len(self.sets)), folder)

    @property
    def facts(self) -> dict[str, str]:
        """What bears on the results, by name: the settings of a report."""
        settings, sets = self.settings, self.sets
        weights = dict.fromkeys(w for e in settings.encoder for w in settings.weights_of(e))
        drawn = " (other ones for each seed)" if RANDOM in weights else ""
        tests = (f"{len(source):,} of {name}" for name, source in sets.tests.items())
        training = f"sgd, {settings.epochs} epochs, learning rate {settings.learning_rate:g}"
        training = training if settings.solver == "sgd" else "ridge, in closed form"
        return {
            "preset": settings.preset,
            "encoder": f"{_listed(settings.encoder)}, {_listed([*weights] or ['no'])} weights"
            f"{drawn}, in {settings.dtype}",
            "paddings": _listed(settings.paddings),
            "padding of pools": settings.pool_padding or "as the convolutions",
            "images": f"{len(sets.train):,} of {settings.images}, {settings.image_size} pixels a "
            "side",
            "test images": ", ".join(tests),
            "inputs": _inputs(self.weights.statistics),
            "position maps": _listed(settings.maps),
            "stages": f"{_listed(settings.stages)}, kept as {settings.feature_dtype}",
            "readouts": f"depth {_listed(settings.depths)}; kernel size "
            f"{_listed(settings.kernel_sizes)}; padding of the readouts "
            f"{_listed(settings.readout_paddings)}",
            "seeds": "none" if "seeds" in settings.unused() else _listed(settings.seeds),
            "training": f"{training}; batches of {settings.batch_size}",
            "controls": _listed(settings.controls) or "none",
        }

    def __str__(self) -> str:
        settings = self.settings
        count = sum(
            len(tasks(settings, c.control)) * len(specs) * len(settings.seeds_of(c.seed))
            for c, specs in zip(self.conditions, self._specs, strict=True)
        )
        controls = sum(bool(condition.control) for condition in self.conditions)
        results = len(self.conditions) - controls
        lines = self.facts | {
            "trained": f"{count:,} readouts on {results} encoders, and {controls} for controls",
            "images made": str(self.images),
            "encoder passes": self._passes(),
            "features": self._room(),
            "devices": runtime.describe_devices(self.devices),
            "workdir": str(settings.workdir),
        }
        if settings.solver == "ridge":
            columns, text = self._columns, runtime.bytes_text
            lines["Gram matrix"] = (
                f"{columns:,} columns, {text(closed_form.gram_bytes(columns))}; "
                f"{text(closed_form.check_room(columns, self.devices))} of memory in all"
            )
        return "\n".join(f"{name + ':':<18}{text}" for name, text in lines.items()) + "\n"

    @cached_property
    def _sides(self) -> list[int]:
        """Of each condition, the side of the images that its encoder sees, pixels."""
        margins = (
            (0, 0) if c.padding is None else encoders.margins(c.encoder, c.padding)
            for c in self.conditions
        )
        return [self.settings.image_size + sum(margin) for margin in margins]

    @cached_property
    def _shapes(self) -> list[Shapes]:
        return [_stage_shapes(self.settings, condition) for condition in self.conditions]

    @cached_property
    def _specs(self) -> list[list[ReadoutSpec]]:
        return [list(self.settings.specs(tuple(shapes))) for shapes in self._shapes]

    @property
    def _columns(self) -> int:
        """How many columns the Gram matrix of the largest readout has."""
        return max(
            spec.kernel_size**2 * sum(shapes[name][2] for name in spec.stages)
            for shapes, specs in zip(self._shapes, self._specs, strict=True)
            for spec in specs
        )

    @cached_property
    def _encodings(self) -> list[list[Encoding]]:
        """Of each condition, the passes of the training images and of each test set."""
        settings = self.settings
        options = EncodingOptions(self.devices, 1, settings.feature_dtype, FEATURE_SIZE)
        epochs = settings.epochs if settings.solver == "sgd" else 1
        limit = settings.cache_limit_gb
        held = disk_usage(settings.cache_dir) if settings.cache_dir else 0
        encodings = []
        for shapes, specs in zip(self._shapes, self._specs, strict=True):
            per_image = layout_bytes(options.layout(shapes, 1))
            # Without a folder for later runs, features go when their encoder is done.
            held = held if settings.cache_dir else 0
            group = []
            for source in (self.sets.train, *self.sets.tests.values()):
                size = len(source) * per_image
                kept = limit is None or held + size <= limit * 1e9
                held += size if kept else 0
                reads = len(specs) * (epochs if source is self.sets.train else 1)
                group.append(Encoding(len(source), size, reads, kept))
            encodings.append(group)
        return encodings

    @property
    def feature_bytes(self) -> int:
        """The most room that the features of one encoder take, of all image sets together."""
        return max(sum(encoding.size for encoding in group) for group in self._encodings)

    def _passes(self) -> str:
        encodings = list(itertools.chain(*self._encodings))
        once = sum(encoding.images for encoding in encodings)
        passes = sum(e.images * (1 if e.kept else e.reads) for e in encodings)
        return f"{passes:,} images" + (f", {once:,} if all were kept" if passes != once else "")

    def _room(self) -> str:
        """What the features of each encoder take, and how many sets find no room."""
        folder, limit = self.settings.cache_dir, self.settings.cache_limit_gb
        encodings = list(itertools.chain(*self._encodings))
        size = sum(encoding.size for encoding in encodings) if folder else self.feature_bytes
        where = f" in {folder}" if folder else ", of one encoder at a time"
        text = runtime.bytes_text(size) + where
        if limit is not None:
            text += f", of which cache_limit_gb allows {runtime.bytes_text(int(limit * 1e9))}"
        if streamed := sum(not encoding.kept for encoding in encodings):
            text += (
                f": {streamed} of {len(encodings)} image sets do not fit (fewer if an earlier run "
                "kept some of them) and are encoded again for each batch, with the same results"
            )
        return text


def prepare(settings: Settings) -> Plan:
    """Opens images, reads weights, and checks that all of it fits together.

    Raises:
        ValueError, FileNotFoundError: images, weights, stages, readouts or a Gram matrix that
            cannot be, do not fit into the memory, or do not fit together.
    """
    devices, sets = runtime.local_devices(settings.devices), open_sets(settings)
    chosen = conditions(settings)
    plan = Plan(settings, chosen, sets, devices, read_trained_weights(settings, chosen))
    for specs in plan._specs:
        if len(set(specs)) < len(specs):
            stages = ", ".join(settings.stages)
            raise ValueError(f"stages names the same stages twice: {stages}")
        for spec in specs:
            spec.readout(settings.image_size)
    parts = zip(plan.conditions, plan._sides, plan._shapes, plan._specs, strict=True)
    runtime.check_memory(needs(settings, parts, devices), devices)
    if settings.solver == "ridge":
        closed_form.check_room(plan._columns, devices)
        closed_form.check_images(len(sets.train))
    return plan


def _stage_shapes(settings: Settings, condition: Condition) -> Shapes:
    try:
        return encoders.stage_shapes(
            condition.encoder, condition.padding, settings.image_size, settings.pool_padding
        )
    except InputTooSmall as error:
        raise InputTooSmall(
            f"image_size={settings.image_size}: {error}; or leave {condition.padding} out of "
            "paddings"
        ) from error


def _inputs(statistics: Sequence[str]) -> str:
    """How pixels become the inputs of encoders."""
    by = [f"normalised by the mean and deviation of {x}" for x in statistics if x != "none"]
    as_they_are = ["as they are"] if "none" in statistics else []
    return f"pixels in [0, 1], {' or '.join([*as_they_are, *by])}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
