"""Convolution and pooling with an explicit padding mode."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from posjax.layers.arrays import Arrays
from posjax.layers.padding import InputTooSmall, Mode, check_mode, mode_index, pad


def conv(
    x: Float[Arrays, "n h w c"],
    kernel: Float[Arrays, "kh kw c d"],
    bias: Float[Arrays, " d"] | None = None,
    *,
    stride: int = 1,
    mode: Mode = "zeros",
) -> Float[Array, "n h2 w2 d"]:
    """Convolution padded by kernel // 2 pixels on every side, the geometry of PyTorch.

    `mode` is a word of `MODES`, or an integer as `pad` takes it. XLA's SAME padding differs: it
    puts the odd row of a strided convolution on the other side. Where the mode is the word `zeros`
    or `partial`, XLA's convolution pads. Under `partial` the response before the bias is scaled by
    (taps of the kernel) / (taps inside the map): Liu et al. 2018 (arXiv 1811.11718), equation 4.

    Raises:
        ValueError: an unknown mode.
        InputTooSmall: the mode or the kernel does not fit into the map.
    """
    size, kernel_size = (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1])
    pads = not (isinstance(mode, str) and check_mode(mode) == "valid")
    rows, columns = (k // 2 if pads else 0 for k in kernel_size)
    widths = ((rows, rows), (columns, columns))
    _check_window((size[0] + 2 * rows, size[1] + 2 * columns), kernel_size)
    pads_zeros = isinstance(mode, str) and mode in ("zeros", "partial")
    y = lax.conv_general_dilated(
        jnp.asarray(x) if pads_zeros else pad(x, widths, mode),
        jnp.asarray(kernel),
        (stride, stride),
        widths if pads_zeros else "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    if may_be_partial(mode):
        sides = zip(size, widths, kernel_size, strict=True)
        along_rows, along_columns = (partial_scale(*side, stride) for side in sides)
        y = scaled_if_partial(y, np.outer(along_rows, along_columns)[..., None], mode)
    return y if bias is None else y + bias


def max_pool(
    x: Float[Arrays, "n h w c"],
    *,
    window: int,
    stride: int,
    padding: int = 0,
    mode: Mode = "lowest",
) -> Float[Array, "n h2 w2 c"]:
    """Maximum over `window` x `window` pixels, the map padded by `padding` on every side.

    `mode` is as in `conv`, or `lowest`, which pads with −inf as `torch.nn.MaxPool2d` does.
    `partial` pads zeros, which after a ReLU is the same. Incomplete windows at the bottom and right
    are dropped, as in PyTorch (`ceil_mode=False`).

    Raises:
        ValueError: an unknown mode.
        InputTooSmall: the mode or the window does not fit into the map.
    """
    widths = ((padding, padding), (padding, padding))
    if isinstance(mode, str) and mode == "lowest":
        padded = jnp.pad(x, ((0, 0), *widths, (0, 0)), constant_values=-jnp.inf)
    else:
        padded = pad(x, widths, mode)
    _check_window((padded.shape[1], padded.shape[2]), (window, window))
    # A Python scalar as the start lets XLA see a max-pool, which it can differentiate.
    return lax.reduce_window(
        padded, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), "VALID"
    )


def _check_window(padded: tuple[int, int], window: tuple[int, int]) -> None:
    if padded[0] < window[0] or padded[1] < window[1]:
        raise InputTooSmall(
            f"a window of {window[0]}x{window[1]} does not fit into a map of "
            f"{padded[0]}x{padded[1]}"
        )


def partial_scale(
    length: int, widths: tuple[int, int], kernel: int, stride: int, dilation: int = 1
) -> Float[np.ndarray, " n"]:
    """Along one axis: the taps of the kernel over those inside of the map, for each response."""
    taps = np.zeros((kernel - 1) * dilation + 1)
    taps[::dilation] = 1
    inside = np.convolve(np.pad(np.ones(length), widths), taps, "valid")[::stride]
    return kernel / np.maximum(inside, 1)


def may_be_partial(mode: Mode) -> bool:
    """Whether a mode is `partial`, or an integer, which may be traced."""
    return not isinstance(mode, str) or mode == "partial"


def scaled_if_partial(
    response: Float[Array, "..."], scale: Float[np.ndarray, "..."], mode: Mode
) -> Float[Array, "..."]:
    """The response times `scale` where the mode, in words or as an integer, is `partial`."""
    is_partial = mode == ("partial" if isinstance(mode, str) else mode_index("partial"))
    return response * jnp.where(is_partial, jnp.asarray(scale, response.dtype), 1)
