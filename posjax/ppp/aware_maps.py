"""Pictures of channels: their kernels, and what padding does to their maps."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from posjax.encoders import Encoder
from posjax.ppp.aware import mode_of, reference_of, responses, spans
from posjax.transforms import Window

Channel = tuple[str, int]
"""A layer and the number of one of its channels."""


@dataclasses.dataclass(frozen=True)
class ChannelMaps:
    """Pictures of a channel: its mean responses to the middle of its layer's input, and its kernel.

    The kernel is summed over input channels, each times its mean: what zeros take away.
    """

    padded: Float[np.ndarray, "h w"]
    true: Float[np.ndarray, "h w"]
    kernel: Float[np.ndarray, "kh kw"]


def channel_maps(
    encoder: Encoder, images: UInt8[np.ndarray, "n h w 3"], channels: Sequence[Channel]
) -> dict[Channel, ChannelMaps]:
    """The pictures of some channels of layers that `measure_borders` gives."""
    reference = reference_of(encoder)

    def maps(variables: Any, images: Array, mode: Array) -> list[tuple[Array, ...]]:
        layers = responses(reference, variables, images, mode)
        arrays = []
        for layer, channel in channels:
            of_layer = layers[layer]
            padded, true = (x[..., channel].mean(axis=0) for x in (of_layer.padded, of_layer.true))
            arrays.append((padded, true, _kernel(of_layer.window, channel)))
        return arrays

    arrays = jax.jit(maps)(encoder.variables, images, mode_of(encoder))
    made = (ChannelMaps(*map(np.asarray, one)) for one in arrays)
    return dict(zip(channels, made, strict=True))


def _kernel(window: Window, channel: int) -> Float[Array, "kh kw"]:
    """The gradient of a single response, times the mean input of each channel."""
    x = jnp.asarray(window.map)
    means = x.mean(axis=(0, *window.axes), keepdims=True)
    shape = list(means.shape)
    for axis, span in zip(window.axes, spans(window), strict=True):
        shape[axis] = span

    def response(pixels: Array) -> Array:
        return window.compute(pixels).ravel()[channel]

    kernel = jax.grad(response)(jnp.zeros(shape, x.dtype)) * means
    return jnp.moveaxis(kernel, window.axes, (0, 1)).sum(axis=(2, 3)).astype(jnp.float32)
