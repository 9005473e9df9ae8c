"""Where in the image a prediction is right: errors in cells, scores by distance to the border."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from posjax.layers import InputTooSmall
from posjax.probes.metrics import ROUNDING

CELLS = 28  # a side: the size at which the paper's readouts see the features
RINGS = CELLS // 2


def rings() -> Int[np.ndarray, "28 28"]:
    """The distance of each cell to the nearest border, in cells: 0 at the border, 13 inside."""
    from_border = np.minimum(np.arange(CELLS), np.arange(CELLS)[::-1])
    return np.minimum(from_border[:, None], from_border[None, :])


def cells(values: Float[ArrayLike, "n h w"]) -> Float[Array, "n 28 28"]:
    """Means over 28 × 28 cells; pixels that two cells share count by their parts.

    Raises:
        InputTooSmall: the maps have fewer pixels than cells.
    """
    rows, columns = (jnp.asarray(_areas(length)) for length in values.shape[1:])
    product = lax.Precision.HIGHEST
    return jnp.einsum("ih,nhw,jw->nij", rows, values, columns, precision=product)


def error_cells(
    prediction: Float[ArrayLike, "n h w"], target: Float[ArrayLike, "h w"]
) -> Float[Array, "n 28 28"]:
    """The absolute error of each prediction in cells.

    Its mean over images is the map of the content loss in the paper's equation 4 and Figure 7.
    """
    return cells(jnp.abs(prediction - target))


def ring_means(of_cells: Float[np.ndarray, "*n 28 28"]) -> Float[np.ndarray, "*n 14"]:
    """Means over the cells at each distance to the border."""
    flat = of_cells.reshape(*of_cells.shape[:-2], -1)
    members = _members() / _members().sum(axis=1, keepdims=True)
    return (flat @ members.T).astype(np.float32)


def ring_spc(
    prediction: Float[ArrayLike, "n h w"],
    target: Float[ArrayLike, "h w"],
    rounding: float = ROUNDING,
) -> Float[Array, "n 14"]:
    """Spearman correlation with the target over the cells at each distance to the border.

    NaN where it is undefined: prediction or target are constant there, as in `spc`.
    """
    values = cells(prediction).reshape(-1, CELLS * CELLS)
    goal = cells(jnp.asarray(target)[None]).reshape(-1)
    members = jnp.asarray(_members(), jnp.float32)
    # Cells over equal pixels of the target differ by rounding where pixels are shared.
    goal_ranks = _ranks_in_rings(goal, rounding=1e-6 * jnp.max(jnp.abs(goal)))

    def score(value: Float[Array, " m"]) -> Float[Array, " 14"]:
        ranks = _ranks_in_rings(value)
        covariance = members @ (ranks * goal_ranks)
        return covariance / jnp.sqrt((members @ ranks**2) * (members @ goal_ranks**2))

    # One image at a time: each needs all pairs of its cells.
    scores = lax.map(score, values)
    undefined = _constant_in_rings(values, rounding) | _constant_in_rings(goal[None], ROUNDING)
    return jnp.where(undefined, jnp.nan, scores)


def _ranks_in_rings(
    values: Float[Array, " m"], rounding: float | Float[Array, ""] = 0.0
) -> Float[Array, " m"]:
    """Average ranks among the cells of the same ring, less their mean."""
    alike = jnp.asarray(_members().T @ _members(), jnp.float32)
    below = (values[None, :] < values[:, None] - rounding).astype(jnp.float32)
    above = (values[None, :] > values[:, None] + rounding).astype(jnp.float32)
    return jnp.sum((below - above) * alike, axis=1) / 2


def _constant_in_rings(values: Float[Array, "n m"], rounding: float) -> Array:
    inside = jnp.asarray(_members() > 0)[None]
    high = jnp.max(jnp.where(inside, values[:, None], -jnp.inf), axis=-1)
    low = jnp.min(jnp.where(inside, values[:, None], jnp.inf), axis=-1)
    largest = jnp.maximum(jnp.abs(high), jnp.abs(low))
    return high - low <= rounding * largest


def _members() -> Float[np.ndarray, "14 m"]:
    return (rings().reshape(1, -1) == np.arange(RINGS)[:, None]).astype(np.float64)


def _areas(length: int) -> Float[np.ndarray, "28 n"]:
    if length < CELLS:
        raise InputTooSmall(f"{CELLS} cells a side need as many pixels, not {length}")
    edges = np.arange(CELLS + 1) * (length / CELLS)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * (CELLS / length)).astype(np.float32)
