"""Where in the image a prediction is right: errors in cells, scores by distance to the border."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from posjax.layers import Arrays, InputTooSmall
from posjax.probes.metrics import ROUNDING, constant

CELLS = 28  # a side: the size at which the paper's readouts see the features
RINGS = CELLS // 2


def rings() -> Int[np.ndarray, "28 28"]:
    """The distance of each cell to the nearest border, in cells: 0 at the border, 13 inside."""
    from_border = np.minimum(np.arange(CELLS), np.arange(CELLS)[::-1])
    return np.minimum(from_border[:, None], from_border[None, :])


def cells(values: Float[Arrays, "n h w"]) -> Float[Array, "n 28 28"]:
    """Means over 28 × 28 cells; pixels that two cells share count by their parts.

    Raises:
        InputTooSmall: the maps have fewer pixels than cells.
    """
    rows, columns = (jnp.asarray(_areas(length)) for length in values.shape[1:])
    product = lax.Precision.HIGHEST
    return jnp.einsum("ih,nhw,jw->nij", rows, values, columns, precision=product)


def error_cells(
    prediction: Float[Arrays, "n h w"], target: Float[Arrays, "h w"]
) -> Float[Array, "n 28 28"]:
    """The absolute error of each prediction in cells.

    Its mean over images is the map of the content loss in the paper's equation 4 and Figure 7.
    """
    return cells(jnp.abs(prediction - target))


def ring_means(of_cells: Float[np.ndarray, "*n 28 28"]) -> Float[np.ndarray, "*n 14"]:
    """Means over the cells at each distance to the border."""
    means = [of_cells[..., rings() == ring].mean(axis=-1, dtype=float) for ring in range(RINGS)]
    return np.stack(means, axis=-1).astype(np.float32)


def ring_spc(
    prediction: Float[Arrays, "n h w"],
    target: Float[Arrays, "h w"],
    rounding: float = ROUNDING,
) -> Float[Array, "n 14"]:
    """Spearman correlation with the target over the cells at each distance to the border.

    NaN where it is undefined: prediction or target are constant there, as in `spc`.
    """
    values, goal = _in_rings(prediction), _in_rings(jnp.asarray(target)[None])
    # Cells over equal pixels of the target differ by rounding where pixels are shared.
    tie = 1e-6 * jnp.max(jnp.abs(goal))
    ranks, goal_ranks = _ranks(values), _ranks(goal, tie)
    spread = jnp.sum(ranks**2, axis=-1) * jnp.sum(goal_ranks**2, axis=-1)
    undefined = constant(values, rounding) | constant(goal, ROUNDING)
    return jnp.where(undefined, jnp.nan, jnp.sum(ranks * goal_ranks, axis=-1) / jnp.sqrt(spread))


def _cells_of_rings() -> tuple[Int[np.ndarray, "14 m"], Float[np.ndarray, "14 m"]]:
    """The cells of each ring, filled up to m cells, and 1 for those that are no filling."""
    members = rings().reshape(1, -1) == np.arange(RINGS)[:, None]
    order = np.argsort(~members, axis=1, kind="stable")[:, : members.sum(axis=1).max()]
    return order, np.take_along_axis(members, order, axis=1).astype(np.float32)


def _in_rings(values: Float[Arrays, "n h w"]) -> Float[Array, "n 14 m"]:
    """The values of the cells of each ring, filled up with the first of them."""
    index, inside = _cells_of_rings()
    chosen = cells(values).reshape(-1, CELLS * CELLS)[:, index]
    return jnp.where(inside > 0, chosen, chosen[..., :1])


def _ranks(
    values: Float[Array, "n 14 m"], tie: float | Float[Array, ""] = 0.0
) -> Float[Array, "n 14 m"]:
    """Average ranks in each ring, less their mean; values no more than `tie` apart are equal."""
    _, inside = _cells_of_rings()
    difference = values[..., :, None] - values[..., None, :]
    signs = jnp.where(jnp.abs(difference) > tie, jnp.sign(difference), 0)
    return jnp.sum(signs * inside[:, None, :], axis=-1) * inside / 2


def _areas(length: int) -> Float[np.ndarray, "28 n"]:
    if length < CELLS:
        raise InputTooSmall(f"{CELLS} cells a side need as many pixels, not {length}")
    edges = np.arange(CELLS + 1) * (length / CELLS)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * (CELLS / length)).astype(np.float32)
