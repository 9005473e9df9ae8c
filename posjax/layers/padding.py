"""Padding modes: what a layer sees beyond the border of its map."""

from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Widths = tuple[tuple[int, int], tuple[int, int]]

_WRITE: dict[str, Callable] = {
    "zeros": lambda x, w: jnp.pad(x, w),
    "reflect": lambda x, w: jnp.pad(x, w, mode="reflect"),
    "replicate": lambda x, w: jnp.pad(x, w, mode="edge"),
    "circular": lambda x, w: jnp.pad(x, w, mode="wrap"),
    "symmetric": lambda x, w: jnp.pad(x, w, mode="symmetric"),
    "partial": lambda x, w: jnp.pad(x, w),
    "valid": lambda x, w: x,
}
MODES: tuple[str, ...] = tuple(_WRITE)


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
        return x
    for axis, size, pair in zip(("height", "width"), x.shape[1:3], widths, strict=True):
        smallest = smallest_size(pair, mode)
        if size < smallest:
            raise InputTooSmall(
                f"{mode} padding by {pair} pixels needs a map of {axis} {smallest} or more, "
                f"found {size}"
            )
    return _WRITE[mode](x, ((0, 0), *widths, (0, 0)))
