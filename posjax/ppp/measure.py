"""PPP of encoders under every padding mode: crops beside the same crops in their surroundings."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from posjax import encoders, runtime
from posjax.encoders import VALID, Encoder, Network, Padding, Wrapped, normalised, with_modes
from posjax.images import Source, batches, select
from posjax.ppp.pattern import ROUNDING, Pattern, Sums, pattern
from posjax.runtime import progress

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


def crop_geometry(name: str | Wrapped, crop: int) -> Geometry:
    """The least margin that puts the border out of sight: the receptive field of the last stage."""
    fields = encoders.network_of(name).receptive_fields()
    total = max(stage.stride for stage in fields.values())
    size = max(stage.size for stage in fields.values())
    strides = tuple((name, stage.stride) for name, stage in fields.items())
    return Geometry(crop, -(-size // total) * total, strides)


def check_count(images: int) -> None:
    """Raises ValueError where there are too few images for an interval."""
    if images < PARTS:
        raise ValueError(f"num_train: PPP needs {PARTS} images or more, not {images}")


def patterns(
    alike: Sequence[Encoder],
    source: Source,
    geometry: Geometry,
    *,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> list[dict[str, Pattern]]:
    """PPP of every stage, for encoders that differ in nothing but their padding mode.

    `source` gives images of `geometry.image_size`. The features within the true surroundings are
    the same under every mode that keeps the size, and are computed once.

    Raises:
        ValueError: there are fewer images than parts, or encoders with other weights.
    """
    check_count(len(source))
    others = {tuple((each.fingerprint() | {"padding": None}).items()) for each in alike}
    if len(others) > 1:
        raise ValueError("PPP compares padding modes of one encoder with the same weights")
    variables = runtime.replicate(alike[0].variables, devices)
    parts = []
    with progress.bar(len(source), f"PPP of {len(alike)} paddings", "images") as bar:
        for rows in np.array_split(np.arange(len(source)), PARTS):
            totals: Any = None
            for images in batches(select(source, rows.tolist()), batch_size):
                shards, mask = runtime.shard_batch(images, batch_size, devices)
                sums = _sums_of_batch(alike, variables, shards, mask, geometry, tuple(devices))
                totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
                progress.advance(bar, len(images))
            parts.append([_as_sums(len(rows), stages) for stages in totals])
    precision = runtime.matmul_precision()
    coarse = runtime.rounding_step(alike[0].dtype, devices[0].platform, precision)
    rounding = max(ROUNDING, coarse)
    return [
        {name: pattern([sums[name] for sums in of_encoder], rounding) for name in of_encoder[0]}
        for of_encoder in zip(*parts, strict=True)
    ]


def _as_sums(count: int, stages: Mapping[str, Any]) -> dict[str, Sums]:
    return {
        name: Sums(count, difference, *map(float, scalars))
        for name, (difference, *scalars) in stages.items()
    }


def _sums_of_batch(
    alike: Sequence[Encoder],
    variables: Any,
    images: UInt8[np.ndarray, "d n h w 3"],
    mask: Float[np.ndarray, "d n"],
    geometry: Geometry,
    devices: tuple[jax.Device, ...],
) -> list[dict[str, tuple[np.ndarray, ...]]]:
    """The sums over one batch, for each encoder."""
    surrounded: dict[str, Any] = {}
    sums = []
    for encoder in alike:
        valid = encoder.padding is not None and encoder.padding.mode == VALID
        mode = VALID if valid else "zeros"
        if mode not in surrounded:
            reference = encoder.network.clone(padding=Padding(mode))
            step = _compiled(surroundings_step, devices, reference, encoder.normalize)
            surrounded[mode] = step(variables, images)
        step = _compiled(crops_step, devices, encoder.network, encoder.normalize, geometry)
        modes = None if encoder.modes is None else np.array(encoder.modes, np.int32)
        modes = runtime.replicate(modes, devices)
        sums.append(step(variables, images, surrounded[mode], mask, modes))
    return runtime.unreplicate(sums)


@functools.cache
def _compiled(step: Callable, devices: tuple[jax.Device, ...], *arguments: Any) -> Callable:
    """Cached, because a compiled step serves all seeds and modes."""
    return runtime.pmap(step(*arguments), devices)


def surroundings_step(network: Network, normalize: str) -> Callable:
    """The function that gives the stages of whole images."""

    def encode_surroundings(variables: Any, images: UInt8[Array, "n h w 3"]) -> encoders.Stages:
        return cast(encoders.Stages, network.apply(variables, normalised(images, normalize)))

    return encode_surroundings


def crops_step(network: Network, normalize: str, geometry: Geometry) -> Callable:
    """The function that encodes the crops, and sums their differences from whole images' stages.

    Its `modes` are those of `features.encode_step`.
    """
    inside = slice(geometry.margin, geometry.margin + geometry.crop)
    strides = dict(geometry.strides)

    def sums(padded: Array, whole: Array, stride: int, mask: Array) -> tuple[Array, ...]:
        start, size = geometry.margin // stride, padded.shape[1]
        true = whole[:, start : start + size, start : start + size]
        weights = mask[:, None, None, None]
        difference, true = (x.astype(jnp.float32) * weights for x in (padded - true, true))
        squares = jnp.sum(difference**2), jnp.sum(true**2)
        return difference.sum(axis=0), squares[0], jnp.sum(true), squares[1]

    def encode_crops(
        variables: Any,
        images: UInt8[Array, "n h w 3"],
        whole: encoders.Stages,
        mask: Float[Array, " n"],
        modes: Int[Array, " layers"] | None,
    ) -> dict[str, tuple[Array, ...]]:
        encoder = network if modes is None else with_modes(network, modes)
        crops = normalised(images[:, inside, inside], normalize)
        stages = cast(encoders.Stages, encoder.apply(variables, crops))
        totals = {k: sums(x, whole[k], strides[k], mask) for k, x in stages.items()}
        return jax.lax.psum(totals, runtime.BATCH_AXIS)

    return encode_crops
