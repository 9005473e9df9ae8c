"""Padding modes: what a layer sees beyond the border of its map."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

Widths = tuple[tuple[int, int], tuple[int, int]]

MODES = ("zeros", "reflect", "replicate", "circular", "symmetric", "partial", "valid")
# The modes that repeat pixels of the map, by numpy's names.
REPEATING = {
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}


class InputTooSmall(ValueError):
    """A map is too small for a layer: the padding mode or the kernel does not fit into it."""


def check_mode(mode: str) -> str:
    """Returns `mode`, or raises ValueError where it is none of `MODES`."""
    if mode not in MODES:
        raise ValueError(f"padding mode {mode!r} is unknown; expected one of {', '.join(MODES)}")
    return mode


def smallest_size(widths: tuple[int, int], mode: str) -> int:
    """The smallest map height (or width) in pixels that `mode` can pad by `widths`."""
    widest = max(widths)
    if mode == "reflect":
        return widest + 1
    if mode in ("circular", "symmetric"):
        return max(widest, 1)
    return 1


def pad(x: Float[ArrayLike, "n h w c"], widths: Widths, mode: str) -> Float[Array, "n h2 w2 c"]:
    """Pads a map by `widths` = ((top, bottom), (left, right)) pixels.

    One row, padded by two pixels on either side:

        zeros       1234 → 00 1234 00
        reflect     1234 → 32 1234 32     the edge is not repeated
        replicate   1234 → 11 1234 44
        circular    1234 → 34 1234 12
        symmetric   1234 → 21 1234 43     the edge is repeated
        partial     1234 → 00 1234 00     the convolution rescales its response, see `conv`
        valid       1234 → 1234           no padding

    The modes are those of `torch.nn.Conv2d(padding_mode=...)` where PyTorch has one, and of
    `numpy.pad` (`edge` is replicate, `wrap` is circular). Like PyTorch, a mode mirrors or wraps
    once at most.

    Raises:
        ValueError: an unknown mode or a negative width.
        InputTooSmall: the map is smaller than the mode needs (a ValueError too).
    """
    check_mode(mode)
    if min(min(pair) for pair in widths) < 0:
        raise ValueError(f"padding widths must not be negative, found {widths}")
    if mode == "valid" or not any(any(pair) for pair in widths):
        return jnp.asarray(x)
    check_fits(x.shape[1:3], widths, mode)
    return jnp.pad(x, ((0, 0), *widths, (0, 0)), mode=REPEATING.get(mode, "constant"))


def fold(padded: Float[Array, "n h2 w2 c"], widths: Widths, mode: str) -> Float[Array, "n h w c"]:
    """Adds what stands beyond the border to the pixels that it repeats: the transpose of `pad`.

    For the modes that repeat. Only the border is touched, while the transpose that JAX derives
    copies the map several times.
    """
    for axis, (before, after) in zip((1, 2), widths, strict=True):
        size = padded.shape[axis] - before - after
        pixels = before + source_pixels(size, (before, after), mode)
        for beyond in (*range(before), *range(before + size, before + size + after)):
            repeated = int(pixels[beyond])
            line, inside = (
                lax.slice_in_dim(padded, at, at + 1, axis=axis) for at in (beyond, repeated)
            )
            padded = lax.dynamic_update_slice_in_dim(padded, inside + line, repeated, axis)
    (top, bottom), (left, right) = widths
    return padded[:, top : padded.shape[1] - bottom, left : padded.shape[2] - right]


def source_pixels(size: int, widths: tuple[int, int], mode: str) -> Int[np.ndarray, " n"]:
    """Which pixel of a row stands at each place of the padded row, for a mode that repeats."""
    return np.pad(np.arange(size), widths, mode=REPEATING[mode])


def check_fits(size: tuple[int, int], widths: Widths, mode: str) -> None:
    """Raises InputTooSmall where a map of `size` is smaller than `mode` needs."""
    for axis, length, pair in zip(("height", "width"), size, widths, strict=True):
        smallest = smallest_size(pair, mode)
        if length < smallest:
            raise InputTooSmall(
                f"{mode} padding by {pair} pixels needs a map of {axis} {smallest} or more, "
                f"found {length}"
            )
