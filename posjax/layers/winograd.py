"""Convolution by Winograd's minimal filtering: fewer products, for CPUs."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers.padding import Widths

# Tiles in one matrix product: enough to fill it, few enough to stay in a processor's cache.
TILES = 1568


def suits_winograd(size: tuple[int, int], kernel_shape: tuple[int, int, int, int]) -> bool:
    """Whether `winograd` was measured to be faster on a CPU than XLA's convolution of stride 1.

    With few channels the transformation of the tiles costs more than it saves. Large maps are
    limited by memory, and small maps waste much of their last tiles.
    """
    kh, kw, *channels = kernel_shape
    return (kh, kw) == (3, 3) and min(channels) >= 128 and min(size) >= 14 and max(size) <= 112


def winograd(
    x: Float[ArrayLike, "n h w c"], kernel: Float[ArrayLike, "3 3 c d"], widths: Widths
) -> Float[Array, "n h2 w2 d"]:
    """Convolution of stride 1 with a 3x3 kernel, with 16 products where 36 are usual.

    The map is padded with `widths` zeros. The error in float32 is that of the direct sum.

    F(2x2, 3x3) of Lavin and Gray 2016 (arXiv 1509.09308): tiles of 4x4 pixels, two pixels apart,
    give 2x2 responses each. On a constant map all responses are equal bit for bit, so rounding
    encodes no position.
    """
    height, width = (
        length + sum(pair) - 2 for length, pair in zip(x.shape[1:3], widths, strict=True)
    )
    kernel = jnp.asarray(kernel)
    rows = [_transform_taps(list(kernel[:, j])) for j in range(3)]
    taps = [_transform_taps([rows[j][a] for j in range(3)]) for a in range(4)]

    def respond(image: Float[Array, "h w c"]) -> Float[Array, "h2 w2 d"]:
        # An odd size is padded to whole tiles. The extra responses are cropped below.
        (top, bottom), (left, right) = widths
        image = jnp.pad(image, ((top, bottom + height % 2), (left, right + width % 2), (0, 0)))
        products = [
            [
                jnp.einsum("hwc,cd->hwd", tile, taps[a][b])
                for b, tile in enumerate(_transform_pixels(row, axis=1))
            ]
            for a, row in enumerate(_transform_pixels(image, axis=0))
        ]
        columns = [_responses([products[a][b] for a in range(4)]) for b in range(4)]
        pairs = [_responses([columns[b][i] for b in range(4)]) for i in range(2)]
        y = jnp.stack([jnp.stack(pair, axis=2) for pair in pairs], axis=1)
        return y.reshape(2 * y.shape[0], 2 * y.shape[2], -1)[:height, :width]

    tiles = -(-height // 2) * -(-width // 2)
    return lax.map(respond, x, batch_size=max(TILES // tiles, 1))


def _transform_taps(taps: list[Array]) -> list[Array]:
    outer = taps[0] + taps[2]
    return [taps[0], (outer + taps[1]) / 2, (outer - taps[1]) / 2, taps[2]]


def _transform_pixels(x: Array, axis: int) -> list[Array]:
    end = x.shape[axis] - 3
    a, b, c, d = (lax.slice_in_dim(x, i, end + i, 2, axis) for i in range(4))
    return [a - c, b + c, c - b, b - d]


def _responses(products: list[Array]) -> list[Array]:
    a, b, c, d = products
    return [a + b + c, b - c - d]
