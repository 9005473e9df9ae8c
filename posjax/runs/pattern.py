"""PPP of encoders under every padding mode: crops beside the same crops in their surroundings."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from posjax import encoders
from posjax.images import Source, batches, select
from posjax.probes.ppp import ROUNDING, Pattern, Sums, pattern
from posjax.runs import parallel, progress
from posjax.runs.frozen import FrozenEncoder, normalised
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
    alike = {tuple((each.identity() | {"padding": None}).items()) for each in frozen}
    if len(alike) > 1:
        raise ValueError("PPP compares padding modes of one encoder with the same weights")
    variables = parallel.replicate(frozen[0].variables, devices)
    all_sums: list[dict[str, list[Sums]]] = [
        {stage: [] for stage, _ in where.strides} for _ in frozen
    ]
    with progress.bar(len(source), f"PPP of {len(frozen)} paddings", "images") as bar:
        for rows in np.array_split(np.arange(len(source)), PARTS):
            totals: Any = None
            for images in batches(select(source, rows.tolist()), batch_size):
                shards, mask = parallel.split(images, batch_size, devices)
                sums = _sums_of_batch(frozen, variables, shards, mask, where, tuple(devices))
                totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
                progress.advance(bar, len(images))
            for stages, sums in zip(all_sums, totals, strict=True):
                for stage, (difference, *scalars) in sums.items():
                    stages[stage].append(Sums(len(rows), difference, *map(float, scalars)))
    coarse = rounding_step(frozen[0].dtype, devices[0].platform, matmul_precision())
    rounding = max(ROUNDING, coarse)
    return [
        {stage: pattern(parts, rounding) for stage, parts in stages.items()} for stages in all_sums
    ]


def _sums_of_batch(
    frozen: Sequence[FrozenEncoder],
    variables: Any,
    images: UInt8[np.ndarray, "d n h w 3"],
    mask: Float[np.ndarray, "d n"],
    where: Geometry,
    devices: tuple[jax.Device, ...],
) -> list[dict[str, tuple[np.ndarray, ...]]]:
    """The sums over one batch, for each encoder."""
    surrounded: dict[bool, Any] = {}
    sums = []
    for encoder in frozen:
        valid = encoder.padding == "valid"
        if valid not in surrounded:
            reference = encoder.module.clone(padding="valid" if valid else "zeros")
            step = _compiled_surroundings(reference, encoder.normalize, devices)
            surrounded[valid] = step(variables, images)
        step = _compiled_crops(encoder.module, encoder.normalize, where, devices)
        modes = None if encoder.modes is None else np.array(encoder.modes, np.int32)
        modes = parallel.replicate(modes, devices)
        sums.append(step(variables, images, surrounded[valid], mask, modes))
    return parallel.gather(sums)


def surroundings_step(module: nn.Module, normalize: str) -> Callable:
    """The function that gives the stages of whole images."""

    def encode_surroundings(variables: Any, images: UInt8[Array, "n h w 3"]) -> encoders.Stages:
        return module.apply(variables, normalised(images, normalize))

    return encode_surroundings


def crops_step(module: nn.Module, normalize: str, where: Geometry) -> Callable:
    """The function that encodes the crops, and sums their differences from whole images' stages.

    Its `modes` are as those of `encoding.encode_step`.
    """
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

    def encode_crops(
        variables: Any,
        images: UInt8[Array, "n h w 3"],
        whole: encoders.Stages,
        mask: Float[Array, " n"],
        modes: Int[Array, " layers"] | None,
    ) -> dict[str, tuple[Array, ...]]:
        encoder = module if modes is None else encoders.with_modes(module, modes)
        stages = encoder.apply(variables, normalised(images[:, inside, inside], normalize))
        found = {k: sums(x, whole[k], strides[k], mask) for k, x in stages.items()}
        return jax.lax.psum(found, parallel.AXIS)

    return encode_crops


# Cached, because a compiled step serves all seeds and modes.
@functools.cache
def _compiled_surroundings(
    module: nn.Module, normalize: str, devices: tuple[jax.Device, ...]
) -> Callable:
    return parallel.pmap(surroundings_step(module, normalize), devices)


@functools.cache
def _compiled_crops(
    module: nn.Module, normalize: str, where: Geometry, devices: tuple[jax.Device, ...]
) -> Callable:
    return parallel.pmap(crops_step(module, normalize, where), devices)
