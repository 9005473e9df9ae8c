"""Bilinear resizing without antialiasing, in both corner conventions of PyTorch."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from posjax.layers.arrays import Arrays


def resize_bilinear(
    x: Float[Arrays, "n h w c"], size: tuple[int, int], *, align_corners: bool
) -> Float[Array, "n h2 w2 c"]:
    """Resizes maps to `size` = (height, width) pixels by bilinear interpolation.

    Equal to `torch.nn.functional.interpolate(mode="bilinear", align_corners=...)`, which has no
    antialiasing; `jax.image.resize` has, and knows only `align_corners=False`.

    Raises:
        ValueError: a size below 1.
    """
    x = jnp.asarray(x)
    for axis, target in ((1, size[0]), (2, size[1])):
        source = x.shape[axis]
        if 2 * target <= source:
            x = _read(x, axis, *_neighbours(source, target, align_corners))
        elif target != source:
            x = _multiply(x, axis, interpolation_matrix(source, target, align_corners))
    return x


@functools.cache
def interpolation_matrix(
    source: int, target: int, align_corners: bool
) -> Float[np.ndarray, "target source"]:
    """The linear map of a 1-d bilinear resize from `source` to `target` pixels, in float64.

    Raises:
        ValueError: a size below 1.
    """
    low, high, fraction = _neighbours(source, target, align_corners)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), low), 1 - fraction)
    np.add.at(matrix, (np.arange(target), high), fraction)
    matrix.setflags(write=False)
    return matrix


def _neighbours(
    source: int, target: int, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source pixels around each target pixel, and its distance to the first."""
    if source < 1 or target < 1:
        raise ValueError(f"sizes must be 1 pixel or more, not {source} -> {target}")
    index = np.arange(target)
    if align_corners:
        position = index * (source - 1) / (target - 1) if target > 1 else np.zeros(1)
    else:
        position = np.clip((index + 0.5) * source / target - 0.5, 0, None)
    low = np.minimum(np.floor(position).astype(int), source - 1)
    return low, np.minimum(low + 1, source - 1), position - low


def _read(x: Array, axis: int, low: np.ndarray, high: np.ndarray, fraction: np.ndarray) -> Array:
    """Shrinks a map along one axis. Only the lines that count are read; a product reads all."""
    weight = jnp.expand_dims(jnp.asarray(fraction, x.dtype), [a for a in range(4) if a != axis])
    before, after = (jnp.take(x, pixels, axis=axis) for pixels in (low, high))
    return before * (1 - weight) + after * weight


def _multiply(x: Array, axis: int, matrix: Float[np.ndarray, "t s"]) -> Array:
    subscripts = {1: "th,nhwc->ntwc", 2: "tw,nhwc->nhtc"}[axis]
    weights = jnp.asarray(matrix, x.dtype)
    return jnp.einsum(subscripts, weights, x, precision=lax.Precision.HIGHEST)
