"""How far predicted saliency goes with a crop that moves over an image."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from posjax.encoders import normalised

DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
FIGURES = ("peak", "mass")


def follow(
    still: Float[Array, "n h w"], moved: Float[Array, "n h w"], direction: tuple[int, int]
) -> dict[str, Float[Array, " n"]]:
    """How far predictions went with a crop that moved, in pixels.

    `still` and `moved` are predictions of the same content, out of a crop and out of the crop that
    was moved in `direction`. `peak` is where a prediction is highest, `mass` its centre of mass,
    along that direction. NaN where either prediction holds nothing for salient (no pixel reaches
    1/2, and its centre of mass is that of the noise), or is flat to within float32's resolution.
    """

    def places(map_: Array) -> tuple[Array, Array, Array]:
        n, height, width = map_.shape
        rows = jnp.arange(height, dtype=jnp.float32)[:, None] * direction[0]
        columns = jnp.arange(width, dtype=jnp.float32) * direction[1]
        along = (rows + columns).reshape(-1)
        flat = map_.reshape(n, -1)
        mass = (flat @ along) / jnp.sum(flat, axis=1)
        highest = jnp.max(flat, axis=1)
        known = (highest >= 0.5) & (jnp.ptp(flat, axis=1) > 1e-6 * highest)
        return along[jnp.argmax(flat, axis=1)], mass, known

    (peak, mass, known), (new_peak, new_mass, new_known) = places(still), places(moved)
    both = known & new_known
    return {
        "peak": jnp.where(both, new_peak - peak, jnp.nan),
        "mass": jnp.where(both, new_mass - mass, jnp.nan),
    }


def shift_step(network: nn.Module, normalize: str, size: int, step: int) -> Callable:
    """The step that measures how far predictions go with crops that move by `step` pixels.

    It maps (variables, images [n, size + 2 step, size + 2 step, 3]) to `FIGURES` [n, directions]
    as parts of the way, see `follow`, and the `maps` of the five crops [n, 5, size, size], the
    middle one first.
    """

    def predict(variables: Any, images: Array, row: int, column: int) -> Array:
        window = images[:, row : row + size, column : column + size]
        return cast(Array, network.apply(variables, normalised(window, normalize)))

    def measure(variables: Any, images: UInt8[Array, "n h w 3"]) -> dict[str, Array]:
        still = predict(variables, images, step, step)
        moves, maps = [], [still]
        for down, right in DIRECTIONS:
            moved = predict(variables, images, step * (1 + down), step * (1 + right))
            pair = (common(still, down, right, step), common(moved, -down, -right, step))
            moves.append(follow(*pair, (down, right)))
            maps.append(moved)
        measured = {
            name: jnp.stack([move[name] for move in moves], axis=1) / step for name in FIGURES
        }
        return {**measured, "maps": jnp.stack(maps, axis=1)}

    return measure


def common(map_: Array, down: int, right: int, step: int) -> Array:
    """The part of a window that is also in the one moved by so many steps."""
    height, width = map_.shape[1:]
    top, left = max(down, 0) * step, max(right, 0) * step
    return map_[:, top : height + min(down, 0) * step, left : width + min(right, 0) * step]
