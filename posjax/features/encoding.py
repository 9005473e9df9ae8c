"""Encoding: images pass through a frozen encoder, batch by batch, and come out as stages."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from posjax import runtime
from posjax.encoders import Encoder, Network, Stages, normalised, quick_on_cpu, with_modes
from posjax.images import Source, batches
from posjax.layers import resize_bilinear
from posjax.runtime import Waits

# A CPU hardly encodes more images at once faster, and a last batch would hold more blank images.
CPU_IMAGES = 10

Batch = dict[str, np.ndarray]
"""The stages of some images: {"f1": [n, h, w, c], …}."""


@dataclasses.dataclass(frozen=True)
class EncodingOptions:
    """How stages are computed and kept.

    `batch_size` is the number of images in a step over all local `devices`, `dtype` the type of
    the stages that are kept. Stages larger than `feature_size` are resized to it.
    """

    devices: Sequence[jax.Device]
    batch_size: int = 32
    dtype: str = "bfloat16"
    feature_size: tuple[int, int] = (28, 28)

    def layout(
        self, shapes: Mapping[str, tuple[int, int, int]], count: int
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape [n, h, w, c] and dtype of every stage of `count` images as it is kept.

        `shapes` are those [h, w, c] that the encoder's stages have, see `Encoder.stage_shapes`.
        """
        return {
            name: jax.ShapeDtypeStruct(
                (count, *_stored_size((height, width), self.feature_size), channels),
                jnp.dtype(self.dtype),
            )
            for name, (height, width, channels) in shapes.items()
        }


def layout_bytes(layout: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """The memory that the stages of a layout take."""
    return sum(int(np.prod(stage.shape)) * stage.dtype.itemsize for stage in layout.values())


def encoded_at_once(batch_size: int, devices: Sequence[jax.Device]) -> int:
    """How many images the devices encode in a step."""
    on_cpu = devices[0].platform == "cpu"
    return min(batch_size, CPU_IMAGES * len(devices)) if on_cpu else batch_size


def encode_batches(
    encoder: Encoder, source: Source, options: EncodingOptions, waits: Waits
) -> Iterator[Batch]:
    """Yields the stages of a source's images in order, batch by batch. `waits` counts the time.

    Raises:
        ValueError: an image cannot be read, or a stage is not finite; names it.
    """
    if not len(source):
        return
    devices = tuple(options.devices)
    size = encoded_at_once(options.batch_size, devices)
    step = _compiled(
        encoder.network, encoder.normalize, options.feature_size, options.dtype, devices
    )
    modes = None if encoder.modes is None else np.array(encoder.modes, np.int32)
    variables, modes = runtime.replicate((encoder.variables, modes), devices)
    pending, start = None, 0
    with waits.timed("encoding"):
        for images in waits.each(batches(source, size)):
            shards, _ = runtime.shard_batch(images, size, devices)
            # The devices work on this batch while the caller stores the one before.
            encoded = step(variables, shards, modes), source.keys[start : start + len(images)]
            start += len(images)
            if pending:
                yield _collect(encoder, source, *pending, waits)
            pending = encoded
        if pending:
            yield _collect(encoder, source, *pending, waits)


def _collect(
    encoder: Encoder, source: Source, encoded: Any, keys: Sequence[str], waits: Waits
) -> Batch:
    with waits.timed("devices"):
        stages, finite = runtime.unshard(encoded, len(keys))
    if not finite.all():
        raise ValueError(
            f"{encoder.name} under padding {encoder.padding_text} gives features of image "
            f"{keys[int(np.argmin(finite))]} of {source.name} that are not finite"
        )
    return stages


def encode_step(
    network: Network, normalize: str, feature_size: tuple[int, int], dtype: str, platform: str
) -> Callable:
    """The function `encode(variables, images, modes)` that a run compiles for `platform`.

    `modes` are integers, one for each layer that pads, see `encoders.with_modes`; None stands for
    the padding of `network`. The function returns the stages, no larger than `feature_size`, and
    for each image whether all of them are finite.
    """

    def encode(
        variables: Any,
        images: UInt8[Array, "n h w 3"],
        modes: Int[Array, " layers"] | None,
    ) -> tuple[dict[str, Array], Bool[Array, " n"]]:
        encoder = network if modes is None else with_modes(network, modes)
        apply = quick_on_cpu(encoder.apply) if platform == "cpu" else encoder.apply
        stages = cast(Stages, apply(variables, normalised(images, normalize)))
        # In bfloat16 the weights of the resize would not add up to 1, and would tell the position.
        small = {
            name: resize_bilinear(
                x.astype(jnp.float32),
                _stored_size((x.shape[1], x.shape[2]), feature_size),
                align_corners=True,
            ).astype(dtype)
            for name, x in stages.items()
        }
        finite = jnp.stack([jnp.isfinite(x).all(axis=(1, 2, 3)) for x in small.values()]).all(0)
        return small, finite

    return encode


def _stored_size(size: tuple[int, int], feature_size: tuple[int, int]) -> tuple[int, int]:
    """`feature_size`, or the size of a stage that is no larger."""
    smaller = size[0] <= feature_size[0] and size[1] <= feature_size[1]
    return size if smaller else feature_size


# Cached, because a compiled encoder serves all seeds, modes and sources of images.
@functools.cache
def _compiled(
    network: Network,
    normalize: str,
    feature_size: tuple[int, int],
    dtype: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    step = encode_step(network, normalize, feature_size, dtype, devices[0].platform)
    return runtime.pmap(step, devices)
