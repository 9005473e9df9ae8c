"""Convolution and pooling with an explicit padding mode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers import onednn
from posjax.layers.gradients import conv_gradients, convolve
from posjax.layers.padding import (
    REPEATING,
    InputTooSmall,
    Widths,
    check_fits,
    check_mode,
    fold,
    pad,
    source_pixels,
)
from posjax.layers.winograd import suits_winograd, winograd


def conv(
    x: Float[ArrayLike, "n h w c"],
    kernel: Float[ArrayLike, "kh kw c d"],
    bias: Float[ArrayLike, " d"] | None = None,
    *,
    stride: int = 1,
    mode: str = "zeros",
) -> Float[Array, "n h2 w2 d"]:
    """Convolution padded by kernel // 2 pixels on every side, the geometry of PyTorch.

    The geometry is that of explicit padding and a VALID convolution, for every mode and stride:
    the SAME padding of XLA puts the odd row of a strided convolution on the other side. Under
    `partial` the response before the bias is scaled by (taps of the kernel) / (taps inside the
    map): partial convolution based padding, Liu et al. 2018 (arXiv 1811.11718), equation 4.

    Raises:
        ValueError: an unknown mode.
        InputTooSmall: the mode or the kernel does not fit into the map.
    """
    kernel_size = kernel.shape[:2]
    widths = conv_widths(kernel_size, mode)
    check_fits(x.shape[1:3], widths, mode)
    _check_window(x.shape[1:3], widths, kernel_size)
    y = _respond(jnp.asarray(x), jnp.asarray(kernel), stride, widths, mode)
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
    widths = ((padding, padding), (padding, padding))
    if mode == "lowest":
        padded = jnp.pad(x, ((0, 0), *widths, (0, 0)), constant_values=-jnp.inf)
    else:
        padded = pad(x, widths, mode)
    _check_window(padded.shape[1:3], ((0, 0), (0, 0)), (window, window))
    if window == stride:
        return _max_of_blocks(padded, window)
    # A Python scalar as the start lets XLA see a max-pool, which it can differentiate.
    return lax.reduce_window(
        padded, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), "VALID"
    )


def _max_of_blocks(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c"]:
    # The same as reduce_window, whose gradient XLA's CPU backend takes ten times as long for.
    for axis in (1, 2):
        end = x.shape[axis] // size * size
        x = functools.reduce(
            jnp.maximum, (lax.slice_in_dim(x, i, end, size, axis) for i in range(size))
        )
    return x


def conv_widths(kernel_size: tuple[int, int], mode: str) -> Widths:
    """Padding widths of a convolution under `mode`: kernel // 2 on every side, 0 for `valid`."""
    if check_mode(mode) == "valid":
        return ((0, 0), (0, 0))
    return tuple((k // 2, k // 2) for k in kernel_size)


# What is fastest forwards is slow to differentiate: backwards, the padded map is copied after all.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _respond(x: Array, kernel: Array, stride: int, widths: Widths, mode: str) -> Array:
    respond = functools.partial(_respond_plainly, stride=stride, widths=widths, mode=mode)
    if stride == 1 and x.dtype == jnp.float32 and suits_winograd(x.shape[1:3], kernel.shape):
        tiles = functools.partial(winograd, widths=widths, mode=mode)
        return lax.platform_dependent(x, kernel, cpu=tiles, default=respond)
    return respond(x, kernel)


def _forward(
    x: Array, kernel: Array, stride: int, widths: Widths, mode: str
) -> tuple[Array, tuple[Array, Array]]:
    if not onednn.usable(x, kernel):
        return _respond(x, kernel, stride, widths, mode), (x, kernel)
    plainly = functools.partial(_respond_plainly, stride=stride, widths=widths, mode=mode)

    def padded(x: Array, kernel: Array) -> Array:
        # Backwards, the padded map is needed anyhow.
        if mode in REPEATING:
            return onednn.conv(pad(x, widths, mode), kernel, stride, ((0, 0), (0, 0)))
        return onednn.conv(x, kernel, stride, widths)

    return lax.platform_dependent(x, kernel, cpu=padded, default=plainly), (x, kernel)


def _backward(
    stride: int, widths: Widths, mode: str, kept: tuple[Array, Array], dy: ArrayLike
) -> tuple[Array, Array]:
    x, kernel = kept
    dy = jnp.asarray(dy)
    if mode not in REPEATING:
        return conv_gradients(x, kernel, dy, stride, widths)
    padded = pad(x, widths, mode)
    dx, dk = conv_gradients(padded, kernel, dy, stride, ((0, 0), (0, 0)))
    return fold(dx, widths, mode), dk


_respond.defvjp(_forward, _backward)


def _respond_plainly(x: Array, kernel: Array, stride: int, widths: Widths, mode: str) -> Array:
    y = convolve(x, kernel, stride, widths)
    return _mend_border(y, x, kernel, stride, widths, mode) if mode in REPEATING else y


def _mend_border(
    y: Array, x: ArrayLike, kernel: ArrayLike, stride: int, widths: Widths, mode: str
) -> Array:
    """Computes the responses anew whose taps reach over the border.

    Copying the whole map to pad it costs more than the convolution does; narrow strips along the
    border are enough.
    """
    for axis in (1, 2):
        k, (before, after) = kernel.shape[axis - 1], widths[axis - 1]
        pixels = source_pixels(x.shape[axis], (before, after), mode)
        count = y.shape[axis]
        first_inside = min(-(-before // stride), count)
        first_beyond = max((x.shape[axis] + before - k) // stride + 1, first_inside)
        across = [(0, 0), widths[1]] if axis == 1 else [widths[0], (0, 0)]
        for start, stop in ((0, first_inside), (first_beyond, count)):
            if start < stop:
                taps = pixels[start * stride : (stop - 1) * stride + k]
                strip = pad(jnp.take(x, taps, axis=axis), tuple(across), mode)
                mended = convolve(strip, kernel, stride, ((0, 0), (0, 0)))
                y = lax.dynamic_update_slice_in_dim(y, mended, start, axis)
    return y


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
