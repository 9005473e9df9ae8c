"""Crops and flips that add no border to an image."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Key, Num

Kind = TypeVar("Kind", jax.Array, np.ndarray)


def random_windows(
    images: Num[Array, "n h w c"],
    targets: Num[Array, "n ..."],
    key: Key[Array, ""],
    margin: int,
    axis_name: str,
) -> tuple[Num[Array, "n h2 w2 c"], Num[Array, "n ..."]]:
    """Windows `margin` pixels smaller than the images, half of them mirrored; masks likewise.

    They hold pixels of the image alone: the crops that are usual for CIFAR fill what they shift in
    with zeros, whose border tells an encoder where it is, whatever the encoder's padding. Windows
    are drawn for the images of all devices: an image has the same one on any number of devices.
    """
    n = len(images)
    count = n * lax.axis_size(axis_name)
    row_key, column_key, flip_key = jax.random.split(key, 3)
    drawn = (
        jax.random.randint(row_key, (count,), 0, margin + 1, jnp.int32),
        jax.random.randint(column_key, (count,), 0, margin + 1, jnp.int32),
        jax.random.bernoulli(flip_key, jnp.float32(0.5), (count,)),
    )
    first = n * lax.axis_index(axis_name)
    local = [lax.dynamic_slice_in_dim(part, first, n) for part in drawn]

    def window(image: Array, row: Array, column: Array, flip: Array) -> Array:
        height, width, *channels = image.shape
        start = (row, column, *(jnp.int32(0) for _ in channels))
        part = lax.dynamic_slice(image, start, (height - margin, width - margin, *channels))
        return jnp.where(flip, part[:, ::-1], part)

    cut = jax.vmap(window)
    return cut(images, *local), cut(targets, *local) if targets.ndim == 3 else targets


def central(images: Num[Kind, "n h w *c"], margin: int) -> Num[Kind, "n h2 w2 *c"]:
    """The window in the middle of each image or mask, `margin` pixels smaller."""
    before, after = margin // 2, margin - margin // 2
    return images[:, before : images.shape[1] - after, before : images.shape[2] - after]
