"""Encoding: images pass through the frozen encoder, batch by batch, and come out as stages."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, UInt8

from posjax import encoders
from posjax.images import Source, batches
from posjax.layers import resize_bilinear
from posjax.runs import parallel
from posjax.runs.frozen import FrozenEncoder, normalised
from posjax.runs.waits import Waits

# More at once are hardly encoded faster on a CPU, and fill up the last batch with more blanks; sets
# of images mostly come in tens.
CPU_IMAGES = 10

Encode = Callable[[Source], Iterator[dict[str, np.ndarray]]]


def encode_with(
    encoder: FrozenEncoder,
    feature_size: tuple[int, int],
    dtype: str,
    batch_size: int,
    devices: Sequence[jax.Device],
    waits: Waits | None = None,
) -> Encode:
    """A function that yields the stages of a source's images in order, batch by batch.

    It raises ValueError where an image cannot be read, or a stage is not finite; names it. `waits`
    counts its time.
    """
    if devices[0].platform == "cpu":
        batch_size = min(batch_size, CPU_IMAGES * len(devices))
    step = _encode_step(encoder.module, encoder.normalize, feature_size, dtype, tuple(devices))
    modes = None if encoder.modes is None else np.array(encoder.modes, np.int32)
    variables, modes = parallel.replicate((encoder.variables, modes), devices)
    waits = Waits() if waits is None else waits

    def encode(source: Source) -> Iterator[dict[str, np.ndarray]]:
        keys = iter(source.keys)

        def collect(encoded: Any, count: int) -> dict[str, np.ndarray]:
            with waits.timed("devices"):
                stages, finite = parallel.join(encoded, count)
            names = list(itertools.islice(keys, count))
            if not finite.all():
                raise ValueError(
                    f"{encoder.name} under padding {encoder.padding} gives features of image "
                    f"{names[int(np.argmin(finite))]} of {source.name} that are not finite in "
                    f"{dtype}"
                )
            return stages

        before = None
        with waits.timed("encoding"):
            for images in waits.each(batches(source, batch_size)):
                shards, _ = parallel.split(images, batch_size, devices)
                # The devices work on this batch while the caller stores the one before.
                now = step(variables, shards, modes), len(images)
                if before:
                    yield collect(*before)
                before = now
            if before:
                yield collect(*before)

    return encode


def layout(
    encoder: FrozenEncoder, source: Source, feature_size: tuple[int, int], dtype: str
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape [n, h, w, c] and dtype of every stage of a source, without computing any.

    Raises:
        InputTooSmall: the images are too small for the encoder under its padding.
    """
    shapes = encoder.shapes(*source[0].shape[:2])
    return {
        name: jax.ShapeDtypeStruct(
            (len(source), *stored_size(x.shape[1:3], feature_size), x.shape[3]), jnp.dtype(dtype)
        )
        for name, x in shapes.items()
    }


def stored_size(size: tuple[int, int], feature_size: tuple[int, int]) -> tuple[int, int]:
    """`feature_size`, or the size of a stage that is no larger."""
    smaller = size[0] <= feature_size[0] and size[1] <= feature_size[1]
    return tuple(size) if smaller else tuple(feature_size)


def encode_step(
    module: nn.Module, normalize: str, feature_size: tuple[int, int], dtype: str, platform: str
) -> Callable:
    """The function `encode(variables, images, modes)` that a run compiles for `platform`.

    `modes` are integers, one for each layer that pads, see `encoders.with_modes`; or None for the
    padding of `module`. It returns the stages, no larger than `feature_size`, and for each image
    whether all of them are finite.
    """

    def encode(
        variables: dict,
        images: UInt8[jax.Array, "n h w 3"],
        modes: Int[jax.Array, " layers"] | None,
    ) -> tuple[dict[str, jax.Array], Bool[jax.Array, " n"]]:
        encoder = module if modes is None else encoders.with_modes(module, modes)
        apply = encoders.quick_on_cpu(encoder.apply) if platform == "cpu" else encoder.apply
        stages = apply(variables, normalised(images, normalize))
        # Resized in bfloat16, weights would not add up to 1: the error would tell the position.
        small = {
            name: resize_bilinear(
                x.astype(jnp.float32), stored_size(x.shape[1:3], feature_size), align_corners=True
            ).astype(dtype)
            for name, x in stages.items()
        }
        finite = jnp.stack([jnp.isfinite(x).all(axis=(1, 2, 3)) for x in small.values()]).all(0)
        return small, finite

    return encode


# Cached, because a compiled encoder serves all seeds, modes and sources of images.
@functools.cache
def _encode_step(
    module: nn.Module,
    normalize: str,
    feature_size: tuple[int, int],
    dtype: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    step = encode_step(module, normalize, feature_size, dtype, devices[0].platform)
    return parallel.pmap(step, devices)
