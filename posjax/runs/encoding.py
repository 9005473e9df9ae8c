"""Encoding: images pass through the frozen encoder, batch by batch, and come out as stages."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posjax.images import Source, batches
from posjax.layers import resize_bilinear
from posjax.runs import parallel
from posjax.runs.frozen import FrozenEncoder, shapes_of, statistics_of

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
) -> Encode:
    """A function that yields the stages of a source's images in order, batch by batch.

    It raises ValueError where an image cannot be read, or a stage is not finite; names it.
    """
    if devices[0].platform == "cpu":
        batch_size = min(batch_size, CPU_IMAGES * len(devices))
    step = _encode_step(encoder.module, encoder.normalize, feature_size, dtype, tuple(devices))
    variables = parallel.replicate(encoder.variables, devices)

    def encode(source: Source) -> Iterator[dict[str, np.ndarray]]:
        keys = iter(source.keys)

        def collect(encoded: Any, count: int) -> dict[str, np.ndarray]:
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
        for images in batches(source, batch_size):
            shards, _ = parallel.split(images, batch_size, devices)
            # The devices work on this batch while the caller stores the one before.
            now = step(variables, shards), len(images)
            if before:
                yield collect(*before)
            before = now
        if before:
            yield collect(*before)

    return encode


def layout(
    encoder: FrozenEncoder, source: Source, feature_size: tuple[int, int], dtype: str
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape [n, h, w, c] and dtype of every stage of a source, without computing any."""
    shapes = shapes_of(encoder.module, *source[0].shape[:2])
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


# Cached, because a compiled encoder serves all seeds and sources of images.
@functools.cache
def _encode_step(
    module: nn.Module,
    normalize: str,
    feature_size: tuple[int, int],
    dtype: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    mean, std = statistics_of(normalize)

    def step(
        variables: dict, images: Float[jax.Array, "n h w 3"]
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        stages = module.apply(variables, (images - mean) / std)
        # Resized in bfloat16, weights would not add up to 1: the error would tell the position.
        small = {
            name: resize_bilinear(
                x.astype(jnp.float32), stored_size(x.shape[1:3], feature_size), align_corners=True
            ).astype(dtype)
            for name, x in stages.items()
        }
        finite = jnp.stack([jnp.isfinite(x).all(axis=(1, 2, 3)) for x in small.values()]).all(0)
        return small, finite

    return parallel.pmap(step, devices)
