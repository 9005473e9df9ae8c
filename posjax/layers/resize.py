"""Bilinear resizing without antialiasing, in both corner conventions of PyTorch."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def resize_bilinear(
    x: Float[ArrayLike, "n h w c"], size: tuple[int, int], *, align_corners: bool
) -> Float[Array, "n h2 w2 c"]:
    """Resizes maps to `size` = (height, width) pixels by bilinear interpolation.

    Equal to `torch.nn.functional.interpolate(mode="bilinear", align_corners=...)`, which has no
    antialiasing; `jax.image.resize` has, and knows only `align_corners=False`.

    Raises:
        ValueError: a size below 1.
    """
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    rows, columns = (
        jnp.asarray(interpolation_matrix(source, target, align_corners), x.dtype)
        for source, target in zip(x.shape[1:3], size, strict=True)
    )
    product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    return product("wj,nhjc->nhwc", columns, product("hi,nijc->nhjc", rows, x))


@functools.cache
def interpolation_matrix(
    source: int, target: int, align_corners: bool
) -> Float[np.ndarray, "target source"]:
    """The linear map of a 1-d bilinear resize from `source` to `target` pixels, in float64.

    Raises:
        ValueError: a size below 1.
    """
    if source < 1 or target < 1:
        raise ValueError(f"sizes must be 1 pixel or more, found {source} -> {target}")
    index = np.arange(target)
    if align_corners:
        position = index * (source - 1) / (target - 1) if target > 1 else np.zeros(1)
    else:
        position = np.clip((index + 0.5) * source / target - 0.5, 0, None)
    low = np.minimum(np.floor(position).astype(int), source - 1)
    high = np.minimum(low + 1, source - 1)
    fraction = position - low
    matrix = np.zeros((target, source))
    np.add.at(matrix, (index, low), 1 - fraction)
    np.add.at(matrix, (index, high), fraction)
    matrix.setflags(write=False)
    return matrix
