"""Random crops and flips that add no border to an image."""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Key, Num

Kind = TypeVar("Kind", jax.Array, np.ndarray)


class Windows(NamedTuple):
    """Where the window of each of n images begins, and whether it is mirrored, left for right."""

    rows: Int[Array, " n"]
    columns: Int[Array, " n"]
    flips: Bool[Array, " n"]


def draw_windows(key: Key[Array, ""], n: int, margin: int) -> Windows:
    """Windows within images that are `margin` pixels larger, every place as likely as any other."""
    of_rows, of_columns, of_flips = jax.random.split(key, 3)
    return Windows(
        jax.random.randint(of_rows, (n,), 0, margin + 1),
        jax.random.randint(of_columns, (n,), 0, margin + 1),
        jax.random.bernoulli(of_flips, shape=(n,)),
    )


def crop(images: Num[Array, "n h w c"], windows: Windows, margin: int) -> Num[Array, "n h2 w2 c"]:
    """The windows, `margin` pixels smaller than the images.

    They hold pixels of the image alone: the crops that are usual for CIFAR fill what they shift in
    with zeros, whose border tells an encoder where it is, whatever the encoder's padding.
    """
    height, width = (length - margin for length in images.shape[1:3])

    def one(image: Array, row: Array, column: Array, flip: Array) -> Array:
        window = lax.dynamic_slice(image, (row, column, 0), (height, width, image.shape[-1]))
        return jnp.where(flip, window[:, ::-1], window)

    return jax.vmap(one)(images, *windows)


def central(images: Num[Kind, "n h w c"], margin: int) -> Num[Kind, "n h2 w2 c"]:
    """The window in the middle of each image, `margin` pixels smaller: at the scale of crops."""
    before, after = margin // 2, margin - margin // 2
    return images[:, before : images.shape[1] - after, before : images.shape[2] - after]
