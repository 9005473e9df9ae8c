"""Convolution and pooling with an explicit padding mode."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers.padding import (
    InputTooSmall,
    Mode,
    Widths,
    check_mode,
    is_partial,
    may_be_partial,
    pad,
)


def conv(
    x: Float[ArrayLike, "n h w c"],
    kernel: Float[ArrayLike, "kh kw c d"],
    bias: Float[ArrayLike, " d"] | None = None,
    *,
    stride: int = 1,
    mode: Mode = "zeros",
) -> Float[Array, "n h2 w2 d"]:
    """Convolution padded by kernel // 2 pixels on every side, the geometry of PyTorch.

    `mode` is a word of `MODES`, or an integer array as `pad` takes it. The geometry is that of
    explicit padding and a VALID convolution, for every mode and stride: the SAME padding of XLA
    puts the odd row of a strided convolution on the other side. Under `zeros` in words, the zeros
    are a parameter of XLA's convolution. Under `partial` the response before the bias is scaled by
    (taps of the kernel) / (taps inside the map): partial convolution based padding, Liu et al. 2018
    (arXiv 1811.11718), equation 4.

    Raises:
        ValueError: an unknown mode.
        InputTooSmall: the mode or the kernel does not fit into the map.
    """
    kernel_size = kernel.shape[:2]
    widths = conv_widths(kernel_size, mode)
    _check_window(x.shape[1:3], widths, kernel_size)
    pads_zeros = isinstance(mode, str) and mode in ("zeros", "partial")
    y = lax.conv_general_dilated(
        jnp.asarray(x) if pads_zeros else pad(x, widths, mode),
        jnp.asarray(kernel),
        (stride, stride),
        widths if pads_zeros else "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    if may_be_partial(mode):
        scale = jnp.asarray(_partial_scale(x.shape[1:3], kernel_size, stride), y.dtype)
        y = y * jnp.where(is_partial(mode), scale, 1)
    return y if bias is None else y + bias


def max_pool(
    x: Float[ArrayLike, "n h w c"],
    *,
    window: int,
    stride: int,
    padding: int = 0,
    mode: Mode = "lowest",
) -> Float[Array, "n h2 w2 c"]:
    """Maximum over `window` x `window` pixels, the map padded by `padding` on every side.

    `mode` is a padding mode, in words or as an integer array, or `lowest`, which pads with −inf as
    `torch.nn.MaxPool2d` does. Incomplete windows at the bottom and right are dropped, as in PyTorch
    (`ceil_mode=False`). Pooling under `partial` pads zeros, which after a ReLU is the same as
    `lowest`.

    Raises:
        ValueError: an unknown mode.
        InputTooSmall: the mode or the window does not fit into the map.
    """
    widths = ((padding, padding), (padding, padding))
    if isinstance(mode, str) and mode == "lowest":
        padded = jnp.pad(x, ((0, 0), *widths, (0, 0)), constant_values=-jnp.inf)
    else:
        padded = pad(x, widths, mode)
    _check_window(padded.shape[1:3], ((0, 0), (0, 0)), (window, window))
    # A Python scalar as the start lets XLA see a max-pool, which it can differentiate.
    return lax.reduce_window(
        padded, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), "VALID"
    )


def conv_widths(kernel_size: tuple[int, int], mode: Mode) -> Widths:
    """Padding widths of a convolution under `mode`: kernel // 2 on every side, 0 for `valid`."""
    if isinstance(mode, str) and check_mode(mode) == "valid":
        return ((0, 0), (0, 0))
    return tuple((k // 2, k // 2) for k in kernel_size)


def _check_window(size: tuple[int, int], widths: Widths, window: tuple[int, int]) -> None:
    padded = tuple(length + sum(pair) for length, pair in zip(size, widths, strict=True))
    if padded[0] < window[0] or padded[1] < window[1]:
        raise InputTooSmall(
            f"a window of {window[0]}x{window[1]} does not fit into a map of "
            f"{padded[0]}x{padded[1]}"
        )


def _partial_scale(
    size: tuple[int, int], kernel_size: tuple[int, int], stride: int
) -> Float[np.ndarray, "h w 1"]:
    def scale(length: int, k: int) -> np.ndarray:
        inside = np.pad(np.ones(length), k // 2)
        return k / np.convolve(inside, np.ones(k), "valid")[::stride]

    return np.outer(*map(scale, size, kernel_size))[..., None]
