"""The plan: what a run will do, how much of it, and what room it takes, before work starts."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

import jax
import numpy as np

from posjax import encoders, runtime
from posjax.encoders import RANDOM
from posjax.features import EncodingOptions, disk_usage, layout_bytes
from posjax.fitting import FEATURE_SIZE, ReadoutSpec, closed_form
from posjax.layers import InputTooSmall
from posjax.runs.conditions import Condition, tasks
from posjax.runs.image_sets import ImagePlan, ImageSets
from posjax.runs.settings import Settings

Shapes = Mapping[str, tuple[int, int, int]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will do. `str` gives one line for each thing worth knowing."""

    settings: Settings
    conditions: tuple[Condition, ...]
    sets: ImageSets
    devices: Sequence[jax.Device]
    statistics: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuses what would fail after hours.

        Raises:
            ValueError: stages, readouts or a Gram matrix that cannot be.
        """
        for specs in self._specs:
            if len(set(specs)) < len(specs):
                stages = ", ".join(self.settings.stages)
                raise ValueError(f"stages names the same stages twice: {stages}")
            for spec in specs:
                spec.readout(self.settings.image_size)
        if self.settings.solver == "ridge":
            closed_form.check_room(self._columns, self.devices)

    @cached_property
    def images(self) -> ImagePlan:
        """The images that the run makes."""
        settings = self.settings
        margins = (
            (0, 0) if c.padding is None else encoders.margins(c.encoder, c.padding)
            for c in self.conditions
        )
        sides = [settings.image_size + sum(margin) for margin in margins]
        folder = settings.cache_dir or settings.workdir
        return ImagePlan(dict.fromkeys(sides, len(self.sets)), folder)

    @property
    def facts(self) -> dict[str, str]:
        """What bears on the results, by name: the settings of a report."""
        settings, sets = self.settings, self.sets
        drawn = " (other ones for each seed)" if RANDOM in settings.weights else ""
        tests = (f"{len(source):,} of {name}" for name, source in sets.tests.items())
        batches = f"batches of {settings.batch_size}"
        seeds = "none" if "seeds" in settings.unused() else _listed(settings.seeds)
        return {
            "preset": settings.preset,
            "encoder": f"{_listed(settings.encoder)}, {_listed(settings.weights)} weights{drawn}, "
            f"in {settings.dtype}",
            "paddings": _listed(settings.paddings),
            "padding of pools": settings.pool_padding or "as the convolutions",
            "images": f"{len(sets.train):,} of {settings.images}, {settings.image_size} pixels a "
            "side",
            "test images": ", ".join(tests),
            "normalize": f"{settings.normalize} ({', '.join(self.statistics) or 'none'})",
            "position maps": _listed(settings.maps),
            "stages": f"{_listed(settings.stages)}, kept as {settings.feature_dtype}",
            "readouts": f"depth {_listed(settings.depths)}; kernel size "
            f"{_listed(settings.kernel_sizes)}; padding {_listed(settings.readout_paddings)}",
            "seeds": seeds,
            "training": f"ridge, in closed form; {batches}"
            if settings.solver == "ridge"
            else f"sgd, {settings.epochs} epochs, {batches}, learning rate "
            f"{settings.learning_rate:g}",
            "controls": _listed(settings.controls) or "none",
        }

    def __str__(self) -> str:
        count = sum(self._count_readouts(i) for i in range(len(self.conditions)))
        results = sum(not condition.control for condition in self.conditions)
        controls = len(self.conditions) - results
        lines = self.facts | {
            "trained": f"{count:,} readouts on {results} encoders and {controls} controls",
            "images made": str(self.images),
            "encoder passes": self._passes(),
            "features": self._room(),
            "devices": runtime.describe_devices(self.devices),
            "workdir": str(self.settings.workdir),
        }
        if self.settings.solver == "ridge":
            columns = self._columns
            lines["Gram matrix"] = (
                f"{columns:,} columns, {closed_form.gram_bytes(columns) / 1e6:,.0f} MB; "
                f"{closed_form.check_room(columns, self.devices) / 1e6:,.0f} MB of memory in all"
            )
        return "\n".join(f"{name + ':':<18}{text}" for name, text in lines.items()) + "\n"

    @cached_property
    def _shapes(self) -> list[Shapes]:
        settings = self.settings
        return [_shapes_of(settings, condition) for condition in self.conditions]

    @cached_property
    def _specs(self) -> list[list[ReadoutSpec]]:
        return [list(self.settings.specs(tuple(shapes))) for shapes in self._shapes]

    @cached_property
    def _bytes(self) -> list[list[int]]:
        """Of each condition, the room that the features of each set take."""
        options = EncodingOptions(self.devices, 1, self.settings.feature_dtype, FEATURE_SIZE)
        counts = [len(self.sets.train), *map(len, self.sets.tests.values())]
        per_image = [layout_bytes(options.layout(shapes, 1)) for shapes in self._shapes]
        return [[size * count for count in counts] for size in per_image]

    @property
    def feature_bytes(self) -> int:
        """The most room that the features of one encoder take, of all image sets together."""
        return max(map(sum, self._bytes))

    @property
    def _columns(self) -> int:
        """How many columns the Gram matrix of the largest readout has."""
        return max(
            spec.kernel_size**2 * sum(shapes[name][2] for name in spec.stages)
            for shapes, specs in zip(self._shapes, self._specs, strict=True)
            for spec in specs
        )

    def _count_readouts(self, index: int) -> int:
        condition = self.conditions[index]
        alone = condition.seed is not None or self.settings.solver == "ridge"
        seeds = 1 if alone else len(self.settings.seeds)
        return len(tasks(self.settings, condition.control)) * len(self._specs[index]) * seeds

    @cached_property
    def _streamed(self) -> list[list[bool]]:
        """Which image sets of each condition find no room within the limit."""
        settings = self.settings
        limit = settings.cache_limit_gb
        if limit is None:
            return [[False] * len(sizes) for sizes in self._bytes]
        kept = disk_usage(settings.cache_dir) if settings.cache_dir else 0
        streamed = []
        for sizes in self._bytes:
            kept = kept if settings.cache_dir else 0
            row = []
            for size in sizes:
                fits = kept + size <= limit * 1e9
                kept += size if fits else 0
                row.append(not fits)
            streamed.append(row)
        return streamed

    def _passes(self) -> str:
        counts = [len(self.sets.train), *map(len, self.sets.tests.values())]
        epochs = self.settings.epochs if self.settings.solver == "sgd" else 1
        reads = [epochs, *[1] * len(self.sets.tests)]
        passes = sum(
            count * (len(specs) * times if streamed else 1)
            for row, specs in zip(self._streamed, self._specs, strict=True)
            for count, times, streamed in zip(counts, reads, row, strict=True)
        )
        text = f"{passes:,} images"
        if np.any(self._streamed):
            text += f", {len(self.conditions) * sum(counts):,} if all were kept"
        return text

    def _room(self) -> str:
        """What the features of each encoder take, and how many sets find no room."""
        settings = self.settings
        totals = [sum(sizes) for sizes in self._bytes]
        if settings.cache_dir:
            text = f"{sum(totals) / 1e6:,.0f} MB in {settings.cache_dir}"
        else:
            text = f"{max(totals) / 1e6:,.0f} MB at a time"
        if settings.cache_limit_gb is None:
            return text
        text += f", of which cache_limit_gb allows {settings.cache_limit_gb * 1e3:,.0f} MB"
        streamed = int(np.sum(self._streamed))
        if streamed:
            text += (
                f": {streamed} of {np.size(self._streamed)} image sets, less those that are there "
                "already, do not fit and are encoded again for each batch, with the same results"
            )
        return text


def _shapes_of(settings: Settings, condition: Condition) -> Shapes:
    try:
        return encoders.stage_shapes(
            condition.encoder, condition.padding, settings.image_size, settings.pool_padding
        )
    except InputTooSmall as error:
        raise InputTooSmall(
            f"image_size={settings.image_size}: {error}; or leave {condition.padding} out of "
            "paddings"
        ) from error


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
