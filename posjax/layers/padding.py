"""Padding modes: what a layer sees beyond the border of its map.

A mode is a word, fixed when a program is compiled, or an integer, the word's place in `MODES`,
which may change between calls: one program then serves every mode that keeps the size.
"""

import functools
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from posjax.layers.arrays import Arrays

Widths = tuple[tuple[int, int], tuple[int, int]]
Index = int | np.integer | Int[Arrays, ""]
Mode = str | Index

MODES = (
    *("zeros", "reflect", "replicate", "circular", "symmetric", "mean", "extrapolate"),
    *("partial", "valid"),
)
# The modes that use pixels of the map, and which ones, by numpy's names.
PIXELS: dict[str, Literal["reflect", "edge", "wrap", "symmetric"]] = {
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
    "extrapolate": "reflect",
}
# The modes under which the same number stands everywhere beyond the border.
CONSTANT = {"zeros": 0, "partial": 0}


class InputTooSmall(ValueError):
    """A map is too small for a layer: the padding mode or the kernel does not fit into it."""


def check_mode(mode: str) -> str:
    """Returns `mode`; raises ValueError where it is none of `MODES`."""
    if mode not in MODES:
        raise ValueError(f"padding mode {mode!r} is unknown; expected one of {', '.join(MODES)}")
    return mode


def smallest_size(widths: tuple[int, int], mode: str) -> int:
    """The smallest map height (or width) in pixels that `mode` can pad by `widths`."""
    widest = max(widths)
    beyond_widest = {"reflect": 1, "extrapolate": 1, "circular": 0, "symmetric": 0}
    return max(widest + beyond_widest[mode], 1) if mode in beyond_widest else 1


def mode_index(mode: str) -> int:
    """The integer that stands for `mode` where the mode is data.

    Raises:
        ValueError: an unknown mode, or `valid`, which changes shapes and so cannot be data.
    """
    if check_mode(mode) == "valid":
        raise ValueError("padding mode 'valid' changes the size of maps: it cannot be an integer")
    return MODES.index(mode)


def pad(x: Float[Arrays, "n h w c"], widths: Widths, mode: Mode) -> Float[Array, "n h2 w2 c"]:
    """Pads a map by `widths` = ((top, bottom), (left, right)) pixels.

    One row, padded by two pixels on either side:

        zeros       1234 → 00 1234 00
        reflect     1234 → 32 1234 32     the edge is not repeated
        replicate   1234 → 11 1234 44
        circular    1234 → 34 1234 12
        symmetric   1234 → 21 1234 43     the edge is repeated
        mean        1234 → mm 1234 mm     m = 2.5, of each image and channel
        extrapolate 1234 → -10 1234 56    2 * edge - mirror image
        partial     1234 → 00 1234 00     the convolution rescales its response, see `conv`
        valid       1234 → 1234           no padding

    `extrapolate` is `numpy.pad(x, widths, "reflect", reflect_type="odd")`. `mean` is that of the
    whole map, in corners too, and in float32 where the map is coarser. The others but `partial` and
    `valid` are those of `torch.nn.Conv2d(padding_mode=...)` or `numpy.pad`. Like PyTorch, a mode
    mirrors or wraps once at most.

    A `mode` that is an integer, see `mode_index`, may be traced. Nothing then checks that the map
    is large enough: the caller does, by `check_fits`.

    Raises:
        ValueError: an unknown mode or a negative width.
        InputTooSmall: the map is smaller than the mode needs.
    """
    x = jnp.asarray(x)
    if min(map(min, widths)) < 0:
        raise ValueError(f"padding widths must not be negative, not {widths}")
    unpadded = isinstance(mode, str) and check_mode(mode) == "valid"
    if unpadded or not any(map(any, widths)):
        return x
    if isinstance(mode, str):
        check_fits((x.shape[1], x.shape[2]), widths, mode)
        if mode in CONSTANT:
            return jnp.pad(x, ((0, 0), *widths, (0, 0)), constant_values=CONSTANT[mode])
    return pad_axes(x, {1: widths[0], 2: widths[1]}, mode)


def pad_axes(
    x: Shaped[Arrays, "..."], widths: Mapping[int, tuple[int, int]], mode: Mode
) -> Shaped[Array, "..."]:
    """Pads an array along any axes, `widths` by axis, as `pad` pads a map that is large enough.

    `mean` is the mean over all these axes, also over those of width 0.
    """
    x = jnp.asarray(x)
    index = MODES.index(mode) if isinstance(mode, str) else mode
    return _pad_axes(x, dict(widths), index, _filling(x, tuple(widths), index))


def check_fits(size: tuple[int, int], widths: Widths, mode: str) -> None:
    """Raises InputTooSmall where a map of `size` is smaller than `mode` needs."""
    for axis, length, pair in zip(("height", "width"), size, widths, strict=True):
        smallest = smallest_size(pair, mode)
        if length < smallest:
            raise InputTooSmall(
                f"{mode} padding by {pair} pixels needs a map of {axis} {smallest} or more, "
                f"not {length}"
            )


def _pad_axes(
    x: Shaped[Array, "..."],
    widths: Mapping[int, tuple[int, int]],
    index: Index,
    filling: Shaped[Array, "..."],
) -> Shaped[Array, "..."]:
    if not widths:
        return x
    (axis, pair), *others = widths.items()
    # The strips are padded, not the whole map twice: XLA would store the map in between.
    before, after = _beyond(x, pair, index, axis, filling)
    parts = [_pad_axes(part, dict(others), index, filling) for part in (*before, x, *after)]
    return jnp.concatenate(parts, axis=axis)


def _filling(x: Shaped[Array, "..."], axes: tuple[int, ...], index: Index) -> Shaped[Array, "..."]:
    """What stands everywhere beyond the border, of size 1 along `axes`."""
    constant = jnp.array([CONSTANT.get(mode, 0) for mode in MODES], x.dtype)[index]
    is_mean = index == MODES.index("mean")
    if isinstance(index, int | np.integer) and not is_mean:
        return jnp.full([1] * x.ndim, constant)
    # A branch for the mean would cost more on a TPU than the mean, and a GPU waits at a branch.
    # jnp.mean sums bfloat16 and float16 in float32.
    return jnp.where(is_mean, jnp.mean(x, axes, keepdims=True).astype(x.dtype), constant)


def _beyond(
    x: Shaped[Array, "..."],
    widths: tuple[int, int],
    index: Index,
    axis: int,
    filling: Shaped[Array, "..."],
) -> tuple[list[Array], list[Array]]:
    """The lines before and behind an array along an axis, one by one."""
    pixels, uses_pixels = (
        t[index] if isinstance(index, int) else jnp.asarray(t)[index]
        for t in _sources(x.shape[axis], widths)
    )
    is_odd = index == MODES.index("extrapolate")

    def line(i: int) -> Array:
        pixel = lax.dynamic_index_in_dim(x, pixels[i], axis)
        edge = lax.index_in_dim(x, 0 if i < widths[0] else -1, axis)
        # A choice, not a product with 0: numbers that are not finite stay out of other modes.
        even_or_odd = jnp.where(is_odd, (2 * edge - pixel).astype(x.dtype), pixel)
        return jnp.where(uses_pixels, even_or_odd, filling)

    lines = [line(i) for i in range(sum(widths))]
    return lines[: widths[0]], lines[widths[0] :]


@functools.cache
def _sources(
    size: int, widths: tuple[int, int]
) -> tuple[Int[np.ndarray, "modes k"], Bool[np.ndarray, " modes"]]:
    """For each mode, the indices of pixels beyond the border, and whether it uses them.

    Modes that need a larger map get arbitrary pixels.
    """
    before, after = widths
    pixels = np.zeros((len(MODES), before + after), np.int32)
    for index, mode in enumerate(MODES):
        if mode in PIXELS and size >= smallest_size(widths, mode):
            row = np.pad(np.arange(size), widths, mode=PIXELS[mode])
            pixels[index] = np.delete(row, np.s_[before : before + size])
    return pixels, np.array([mode in PIXELS for mode in MODES])
