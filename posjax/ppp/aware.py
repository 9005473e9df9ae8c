"""What the padding of each layer adds to its channels at each border, in any network.

After Garcia-Gasulla et al. 2023 (arXiv 2309.08048): some channels look at the border itself. A
layer sees the middle of its input padded, as if the middle were all, and the same pixels within
their true surroundings. Content and all layers below are the same: only its own padding differs.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from posjax import runtime
from posjax.encoders import VALID, Encoder, Network, normalised
from posjax.images import Source, batches
from posjax.layers import mode_index
from posjax.runtime import progress
from posjax.transforms import Window, at_padded_layers, padded_layers

BORDERS = ("top", "bottom", "left", "right")


@dataclasses.dataclass(frozen=True)
class LayerBorders:
    """What padding adds at the borders of one layer, for n images.

    `difference` is the mean of padded less true over the responses at one of `BORDERS` that see
    padding; NaN at a border where none does. Corners, which see two borders, belong to none. `mean`
    and `variance` are those of an image's true responses.
    """

    difference: Float[np.ndarray, "n 4 c"]
    mean: Float[np.ndarray, "n c"]
    variance: Float[np.ndarray, "n c"]

    @property
    def deviation(self) -> Float[np.ndarray, " c"]:
        """The standard deviation of the true responses, over positions and images."""
        return np.sqrt(self.variance.mean(axis=0) + self.mean.var(axis=0))


@dataclasses.dataclass(frozen=True)
class Side:
    """The middle of a layer's input along one axis, and which responses to it see padding.

    `pixels` are the middle's; `places` are those of its responses among all of the whole map.
    """

    pixels: slice
    places: slice
    before: Bool[np.ndarray, " n"]
    after: Bool[np.ndarray, " n"]

    @property
    def between(self) -> Bool[np.ndarray, " n"]:
        """The responses that see no padding along this axis."""
        return ~(self.before | self.after)


@dataclasses.dataclass(frozen=True)
class Reference:
    """An encoder under zeros, whose layers are then padded by any mode: one for all modes."""

    network: Network
    normalize: str
    pool_padding: str | None


def side_of(size: int, widths: tuple[int, int], span: int, stride: int) -> Side | None:
    """The largest middle that leaves the padding's widths on each side, by multiples of the stride.

    `span` is how many pixels the kernel covers. None where the map is too small: every response to
    the middle would see padding.
    """
    before, after = (-(-width // stride) * stride for width in widths)
    length = size - before - after
    if length < span:
        return None
    starts = np.arange((length + sum(widths) - span) // stride + 1) * stride - widths[0]
    places = slice(before // stride, before // stride + len(starts))
    side = Side(slice(before, size - after), places, starts < 0, starts + span > length)
    return side if side.between.any() else None


def measure_borders(
    encoder: Encoder, source: Source, *, batch_size: int, devices: tuple[jax.Device, ...]
) -> dict[str, LayerBorders]:
    """What padding adds to each channel at each border, by layer: convolutions that pad.

    Layers are left out where their maps are too small for a middle, and where their responses
    cannot be taken out: transposed ones, those inside of loops, and those that are no convolutions
    of images. Under `valid` there are none.
    """
    step = _compiled(reference_of(encoder), devices)
    variables, mode = runtime.replicate((encoder.variables, mode_of(encoder)), devices)
    parts = []
    with progress.bar(len(source), f"borders of {encoder.padding_text}", "images") as bar:
        for images in batches(source, batch_size):
            shards, _ = runtime.shard_batch(images, batch_size, devices)
            borders = step(variables, shards, mode)
            parts.append(runtime.unshard(borders, len(images)))
            progress.advance(bar, len(images))
    merged = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    return {layer: LayerBorders(*arrays) for layer, arrays in merged.items()}


def padded_convolutions(encoder: Encoder, size: int) -> list[str]:
    """The names of all convolutions that pad, of images of `size` pixels."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    layers = padded_layers(reference_of(encoder).network.apply, encoder.variables, images)
    return [str(layer) for layer in layers if layer.kind == "conv"]


def reference_of(encoder: Encoder) -> Reference:
    """The encoder under zeros, or as it is where it is `valid`."""
    padding = VALID if encoder.padding is not None and encoder.padding.mode == VALID else "zeros"
    network = encoder.network if encoder.padding is None else encoder.network.clone(padding=padding)
    return Reference(network, encoder.normalize, encoder.pool_padding)


def mode_of(encoder: Encoder) -> np.int32:
    """The mode of all layers, as an integer."""
    mode = "zeros" if encoder.padding is None else encoder.padding.mode
    return np.int32(0 if mode == VALID else mode_index(mode))


@dataclasses.dataclass(frozen=True)
class Responses:
    """A layer's responses to the middle of its input: padded, and in its true surroundings."""

    window: Window
    padded: Float[Array, "n h w c"]
    true: Float[Array, "n h w c"]
    rows: Side
    columns: Side


def responses(
    reference: Reference, variables: Any, images: UInt8[Array, "n h w 3"], mode: Int[Array, ""]
) -> dict[str, Responses]:
    """Both responses of every layer that can be measured, under a mode as an integer."""
    by_layer: dict[str, Responses] = {}

    def respond(layer: str, window: Window) -> Array | None:
        has_own_mode = window.kind == "max_pool" and reference.pool_padding is not None
        if has_own_mode or window.transposed:
            return None
        whole = window.padded_by(mode)
        is_plain = window.kind == "conv" and not window.is_inner and whole.ndim == 4
        if is_plain and len(window.axes) == 2 and whole.shape[0] == len(images):
            by_layer.update(_compare(str(layer), window, whole, mode))
        return whole

    apply = at_padded_layers(reference.network.apply, respond)
    apply(variables, normalised(jnp.asarray(images), reference.normalize))
    return by_layer


def _compare(layer: str, window: Window, whole: Array, mode: Array) -> dict[str, Responses]:
    geometry = (window.size, window.widths, spans(window), window.strides)
    sides = [side_of(*along) for along in zip(*geometry, strict=True)]
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return {}
    pixels, places = [slice(None)] * 4, [slice(None)] * 4
    for side, axis, out_axis in zip(known, window.axes, window.out_axes, strict=True):
        pixels[axis], places[out_axis] = side.pixels, side.places
    middle = dataclasses.replace(window, map=jnp.asarray(window.map)[tuple(pixels)])
    pair = (middle.padded_by(mode), whole[tuple(places)])
    padded, true = (jnp.moveaxis(x, window.out_axes, (1, 2)).astype(jnp.float32) for x in pair)
    return {layer: Responses(window, padded, true, *known)}


def spans(window: Window) -> list[int]:
    """How many pixels the kernel covers along each axis."""
    return [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]


# Cached, because a compiled step serves all seeds and modes.
@functools.cache
def _compiled(reference: Reference, devices: tuple[jax.Device, ...]) -> Callable:
    def step(variables: Any, images: Array, mode: Array) -> dict[str, tuple[Array, ...]]:
        layers = responses(reference, variables, images, mode)
        return {layer: _borders(of_layer) for layer, of_layer in layers.items()}

    return runtime.pmap(step, devices)


def _borders(layer: Responses) -> tuple[Array, ...]:
    """The arrays of `LayerBorders`."""
    rows, columns = layer.rows, layer.columns
    seen = [np.outer(one, columns.between) for one in (rows.before, rows.after)]
    seen += [np.outer(rows.between, one) for one in (columns.before, columns.after)]
    # The mean over an empty border is NaN.
    weights = np.stack(seen) / [[[where.sum() or np.nan]] for where in seen]
    added = layer.padded - layer.true
    difference = jnp.einsum("nhwc,bhw->nbc", added, weights.astype(np.float32))
    return difference, layer.true.mean(axis=(1, 2)), layer.true.var(axis=(1, 2))
