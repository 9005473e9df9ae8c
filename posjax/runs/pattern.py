"""PPP of encoders under every padding mode: crops beside the same crops in their surroundings."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posjax import encoders
from posjax.images import Source, batches, select
from posjax.probes.ppp import ROUNDING, Pattern, Sums, pattern
from posjax.runs import parallel, progress
from posjax.runs.frozen import FrozenEncoder, statistics_of
from posjax.runs.rounding import matmul_precision, rounding_step

PARTS = 5  # of the images: intervals come from leaving out each in turn


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How a crop lies in its image: `margin` pixels from every border, a multiple of all strides.

    `strides` are those of the stages, (name, pixels), under every padding mode.
    """

    crop: int
    margin: int
    strides: tuple[tuple[str, int], ...]

    @property
    def image_size(self) -> int:
        """The side of the whole image, pixels."""
        return self.crop + 2 * self.margin


def geometry(name: str, crop: int) -> Geometry:
    """The least margin that puts the border out of sight: the receptive field of the last stage."""
    lattice = encoders.create(name).lattice()
    total = max(stage.stride for stage in lattice.values())
    field = max(stage.field for stage in lattice.values())
    strides = tuple((name, stage.stride) for name, stage in lattice.items())
    return Geometry(crop, -(-field // total) * total, strides)


def check_count(images: int) -> None:
    """Raises ValueError where there are too few images for an interval."""
    if images < PARTS:
        raise ValueError(f"--num_train: PPP needs {PARTS} images or more, found {images}")


def patterns(
    frozen: Sequence[FrozenEncoder],
    source: Source,
    where: Geometry,
    *,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> list[dict[str, Pattern]]:
    """PPP of every stage, for encoders that differ in nothing but their padding mode.

    `source` gives images of `where.image_size`. The features within the true surroundings are the
    same under every mode that keeps the size, and are computed once.

    Raises:
        ValueError: there are fewer images than parts, or encoders with other weights.
    """
    check_count(len(source))
    alike = {(each.name, each.digest, each.normalize, each.dtype) for each in frozen}
    if len(alike) > 1:
        raise ValueError("PPP compares padding modes of one encoder with the same weights")
    modules = tuple(encoder.module for encoder in frozen)
    paddings = tuple(encoder.padding for encoder in frozen)
    step = _step(modules, paddings, where, frozen[0].normalize, tuple(devices))
    variables = parallel.replicate(frozen[0].variables, devices)
    found: list[dict[str, list[Sums]]] = [{stage: [] for stage, _ in where.strides} for _ in frozen]
    with progress.bar(len(source), f"PPP of {len(frozen)} paddings", "images") as bar:
        for rows in np.array_split(np.arange(len(source)), PARTS):
            totals: Any = None
            for images in batches(select(source, rows.tolist()), batch_size):
                shards, mask = parallel.split(images, batch_size, devices)
                sums = parallel.gather(step(variables, shards, mask))
                totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
                progress.advance(bar, len(images))
            for stages, sums in zip(found, totals, strict=True):
                for stage, values in sums.items():
                    difference, *scalars = values
                    stages[stage].append(Sums(len(rows), difference, *map(float, scalars)))
    coarse = rounding_step(frozen[0].dtype, devices[0].platform, matmul_precision())
    rounding = max(ROUNDING, coarse)
    return [
        {stage: pattern(parts, rounding) for stage, parts in stages.items()} for stages in found
    ]


# Cached, because a compiled step serves all seeds.
@functools.lru_cache(maxsize=8)
def _step(
    modules: tuple[nn.Module, ...],
    paddings: tuple[str, ...],
    where: Geometry,
    normalize: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    mean, std = statistics_of(normalize)
    reference = modules[0].clone(padding="zeros")
    inside = slice(where.margin, where.margin + where.crop)
    strides = dict(where.strides)

    def sums(padded: Array, whole: Array, stride: int, mask: Array) -> tuple[Array, ...]:
        start, size = where.margin // stride, padded.shape[1]
        true = whole[:, start : start + size, start : start + size]
        weights = mask[:, None, None, None]
        difference, true = (padded - true) * weights, true * weights
        return (
            difference.sum(axis=0),
            jnp.sum(difference**2),
            jnp.sum(true),
            jnp.sum(true**2),
        )

    def step(variables: Any, images: Float[Array, "n h w 3"], mask: Float[Array, " n"]) -> list:
        images = (images - mean) / std
        crops = images[:, inside, inside]
        surrounded = reference.apply(variables, images)
        found = []
        for module, padding in zip(modules, paddings, strict=True):
            whole = module.apply(variables, images) if padding == "valid" else surrounded
            stages = module.apply(variables, crops)
            found.append({k: sums(x, whole[k], strides[k], mask) for k, x in stages.items()})
        return jax.lax.psum(found, parallel.AXIS)

    return parallel.pmap(step, devices)
