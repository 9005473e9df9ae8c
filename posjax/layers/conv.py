"""Convolution and pooling with an explicit padding mode."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers.padding import InputTooSmall, Widths, check_mode, pad


def conv(
    x: Float[ArrayLike, "n h w c"],
    kernel: Float[ArrayLike, "kh kw c d"],
    bias: Float[ArrayLike, " d"] | None = None,
    *,
    stride: int = 1,
    mode: str = "zeros",
) -> Float[Array, "n h2 w2 d"]:
    """Convolution padded by kernel // 2 pixels on every side, the geometry of PyTorch.

    Padding is written out and a VALID convolution follows, for every mode and stride: the SAME
    padding of XLA puts the odd row of a strided convolution on the other side. Under `partial`
    the response before the bias is scaled by (taps of the kernel) / (taps inside the map): partial
    convolution based padding, Liu et al. 2018 (arXiv 1811.11718), equation 4.

    Raises:
        ValueError: an unknown mode.
        InputTooSmall: the mode or the kernel does not fit into the map.
    """
    kernel_size = kernel.shape[:2]
    widths = conv_widths(kernel_size, mode)
    padded = pad(x, widths, mode)
    _check_fits(padded, kernel_size)
    y = lax.conv_general_dilated(
        padded, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if mode == "partial":
        y = y * jnp.asarray(_partial_scale(x.shape[1:3], kernel_size, stride), y.dtype)
    return y if bias is None else y + bias


def max_pool(
    x: Float[ArrayLike, "n h w c"],
    *,
    window: int,
    stride: int,
    padding: int = 0,
    mode: str = "lowest",
) -> Float[Array, "n h2 w2 c"]:
    """Maximum over `window` x `window` pixels, the map padded by `padding` on every side.

    `mode` is a padding mode or `lowest`, which pads with −inf as `torch.nn.MaxPool2d` does.
    Windows that are not full at the bottom and right are left out, as in PyTorch
    (`ceil_mode=False`). Partial convolution has no counterpart for pooling: `partial` pads zeros,
    which after a ReLU is the same as `lowest`.

    Raises:
        ValueError: an unknown mode.
        InputTooSmall: the mode or the window does not fit into the map.
    """
    if mode == "lowest":
        edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        padded = jnp.pad(x, edges, constant_values=-jnp.inf) if padding else x
    else:
        padded = pad(x, ((padding, padding), (padding, padding)), mode)
    _check_fits(padded, (window, window))
    # A Python scalar as the start lets XLA see a max-pool, which it can differentiate.
    return lax.reduce_window(
        padded, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), "VALID"
    )


def conv_taps(
    x: Float[ArrayLike, "*n h w c"], kernel: Float[ArrayLike, "kh kw c d"], *, padding: int = 0
) -> Float[Array, "*n h2 w2 d"]:
    """Convolution with zero padding as matrix products, for readouts.

    `lax.conv_general_dilated` and its gradient are slow for a thousand input channels and a
    handful of outputs. With few outputs one product gives every tap's response, and the taps are
    shifted and summed; with many the taps of the input are shifted first. Equal to
    `conv_general_dilated` with stride 1 up to rounding.

    Raises:
        InputTooSmall: the kernel does not fit into the padded map.
    """
    kh, kw, inputs, outputs = kernel.shape
    edges = ((padding, padding), (padding, padding), (0, 0))
    height, width = (x.shape[-3] + 2 * padding - kh + 1, x.shape[-2] + 2 * padding - kw + 1)
    if height < 1 or width < 1:
        raise InputTooSmall(
            f"a {kh}x{kw} kernel with padding {padding} does not fit into a map of "
            f"{x.shape[-3]}x{x.shape[-2]}"
        )
    product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    taps = [(i, j) for i in range(kh) for j in range(kw)]

    def window(a: Array, i: int, j: int) -> Array:
        return a[..., i : i + height, j : j + width, :]

    if outputs < inputs:
        responses = product("...c,ijcd->ij...d", x, kernel)
        responses = jnp.pad(responses, [(0, 0)] * (responses.ndim - 3) + list(edges))
        return sum(window(responses[i, j], i, j) for i, j in taps)
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + list(edges))
    return sum(product("...c,cd->...d", window(padded, i, j), kernel[i, j]) for i, j in taps)


def conv_widths(kernel_size: tuple[int, int], mode: str) -> Widths:
    """Padding widths of a convolution under `mode`: kernel // 2 on every side, 0 for `valid`."""
    if check_mode(mode) == "valid":
        return ((0, 0), (0, 0))
    return tuple((k // 2, k // 2) for k in kernel_size)


def _check_fits(padded: Array, window: tuple[int, int]) -> None:
    if padded.shape[1] < window[0] or padded.shape[2] < window[1]:
        raise InputTooSmall(
            f"a window of {window[0]}x{window[1]} does not fit into a map of "
            f"{padded.shape[1]}x{padded.shape[2]}"
        )


def _partial_scale(
    size: tuple[int, int], kernel_size: tuple[int, int], stride: int
) -> Float[np.ndarray, "h w 1"]:
    def scale(length: int, k: int) -> np.ndarray:
        inside = np.pad(np.ones(length), k // 2)
        return k / np.convolve(inside, np.ones(k), "valid")[::stride]

    return np.outer(*map(scale, size, kernel_size))[..., None]
