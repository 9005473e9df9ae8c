"""Convolution of readouts as matrix products: a thousand channels in, a handful out."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers.padding import InputTooSmall
from posjax.layers.resize import interpolation_matrix
from posjax.layers.winograd import suits_winograd, winograd


def conv_taps(
    x: Float[ArrayLike, "n h w c"], kernel: Float[ArrayLike, "kh kw c d"], *, padding: int = 0
) -> Float[Array, "n h2 w2 d"]:
    """Convolution with zero padding as matrix products, for readouts.

    `lax.conv_general_dilated` and its gradient are slow for a thousand input channels and a
    handful of outputs. With few outputs one product gives every tap's response, and the taps are
    shifted and summed; with many the taps of the input are shifted first, or on a CPU `winograd`
    saves more than half of the products. Equal to `conv_general_dilated` with stride 1 up to
    rounding.

    Raises:
        InputTooSmall: the kernel does not fit into the padded map.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    kh, kw, inputs, outputs = kernel.shape
    height, width = _size_after(x.shape[1:3], (kh, kw), padding)
    if outputs < inputs:
        return sum_taps(tap_responses(x, kernel), x.shape[1:3], padding=padding)

    def shifted(x: Array, kernel: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        return sum(
            _product(padded[:, i : i + height, j : j + width], kernel[i, j])
            for i in range(kh)
            for j in range(kw)
        )

    if x.dtype == jnp.float32 and suits_winograd((height, width), kernel.shape):
        widths = ((padding, padding), (padding, padding))

        def tiles(x: Array, kernel: Array) -> Array:
            return winograd(x, kernel, widths)

        return lax.platform_dependent(x, kernel, cpu=tiles, default=shifted)
    return shifted(x, kernel)


def tap_responses(
    x: Float[ArrayLike, "n h w c"], kernel: Float[ArrayLike, "kh kw c d"]
) -> Float[Array, "kh kw d n h w"]:
    """What every tap of the kernel responds to every pixel."""
    kh, kw, inputs, outputs = kernel.shape
    matrix = jnp.transpose(kernel, (2, 0, 1, 3)).reshape(inputs, -1)
    # Turned round behind the product, because before it the whole input would be.
    responses = _product(x, matrix).reshape(*x.shape[:3], kh, kw, outputs)
    return jnp.transpose(responses, (3, 4, 5, 0, 1, 2))


def sum_taps(
    responses: Float[Array, "kh kw d n h w"],
    size: tuple[int, int],
    *,
    padding: int = 0,
) -> Float[Array, "n h2 w2 d"]:
    """The convolution with zero padding of a map that is first resized to `size`.

    The resize (bilinear, align_corners=True) is linear and the same for all channels, so that it
    may follow the product with the kernel, which has fewer: with the shifts and the sum of the
    taps it is one small matrix for the rows and one for the columns.

    Raises:
        InputTooSmall: the kernel does not fit into the padded map.
    """
    kh, kw, _, _, *found = responses.shape
    height, width = _size_after(size, (kh, kw), padding)

    def shifts(source: int, target: int, taps: int, length: int) -> Float[np.ndarray, "k t s"]:
        resize = np.pad(interpolation_matrix(source, target, True), ((padding, padding), (0, 0)))
        return np.stack([resize[tap : tap + length] for tap in range(taps)]).astype(np.float32)

    rows, columns = shifts(found[0], size[0], kh, height), shifts(found[1], size[1], kw, width)
    product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    summed = product("ijdnhw,jyw->idnhy", responses, columns)
    return product("idnhy,ixh->nxyd", summed, rows)


def _product(x: ArrayLike, matrix: ArrayLike) -> Array:
    return jnp.einsum("nhwc,cd->nhwd", x, matrix, precision=lax.Precision.HIGHEST)


def _size_after(size: tuple[int, int], window: tuple[int, int], padding: int) -> tuple[int, int]:
    height, width = (length + 2 * padding - k + 1 for length, k in zip(size, window, strict=True))
    if height < 1 or width < 1:
        raise InputTooSmall(
            f"a {window[0]}x{window[1]} kernel with padding {padding} does not fit into a map of "
            f"{size[0]}x{size[1]}"
        )
    return height, width
