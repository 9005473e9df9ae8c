"""How well predicted saliency agrees with masks: the usual figures."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from posjax.layers import Arrays
from posjax.training.objective import Measures

BETA_SQUARED = 0.3
"""How much recall counts beside precision (Achanta et al. 2009)."""
LEVELS = 256
MEASURED = ("mae", "f_adaptive", "precision", "recall", "intersection", "union")
FIGURES = ("f_adaptive", "f_max", "mae", "miou")


def saliency_measures(
    predicted: Float[Arrays, "n h w"], salient: Bool[Arrays, "n h w"]
) -> Measures:
    """What the usual figures are made of, for predictions in [0, 1] and true masks.

    `mae`; `f_adaptive`, the F-measure at twice the mean prediction (Achanta et al. 2009);
    `precision` and `recall` [256] of the pixels at or above each level k/255 of the rounded
    prediction, as the benchmark of Borji et al. 2015 does it; `intersection` and `union` [2] of
    what is predicted at one half or above with the truth, for the surroundings and the salient.
    `f_adaptive`, `precision` and `recall` are NaN for an image without a salient pixel.
    """
    n = len(predicted)
    flat, truth = (jnp.asarray(x, jnp.float32).reshape(n, -1) for x in (predicted, salient))
    positives = jnp.sum(truth, axis=1)
    undefined = positives == 0

    def f_of(chosen: Array) -> Array:
        hits = jnp.sum(chosen * truth, axis=1)
        return f_measure(hits / jnp.maximum(jnp.sum(chosen, axis=1), 1), hits / positives)

    threshold = jnp.minimum(2 * jnp.mean(flat, axis=1, keepdims=True), 1)
    above = (flat >= threshold).astype(jnp.float32)
    level = jnp.rint(flat * (LEVELS - 1)).astype(jnp.int32)
    rows = jnp.arange(n)[:, None]

    def at_or_above(weight: Array | float) -> Array:
        counts = jnp.zeros((n, LEVELS), jnp.float32).at[rows, level].add(weight)
        return jnp.cumsum(counts[:, ::-1], axis=1)[:, ::-1]

    hits, chosen = at_or_above(truth), at_or_above(1.0)
    half = (flat >= 0.5).astype(jnp.float32)
    both = jnp.stack([jnp.sum((1 - half) * (1 - truth), axis=1), jnp.sum(half * truth, axis=1)], 1)
    either = flat.shape[1] - both[:, ::-1]
    nowhere = undefined[:, None]
    return {
        "mae": jnp.mean(jnp.abs(flat - truth), axis=1),
        "f_adaptive": jnp.where(undefined, jnp.nan, f_of(above)),
        "precision": jnp.where(nowhere, jnp.nan, hits / jnp.maximum(chosen, 1)),
        "recall": jnp.where(nowhere, jnp.nan, hits / positives[:, None]),
        "intersection": both,
        "union": either,
    }


def f_measure(precision: Any, recall: Any) -> Any:
    """(1 + β²)·P·R / (β²·P + R), and 0 where both are 0."""
    below = BETA_SQUARED * precision + recall
    nothing = (below == 0).astype(below.dtype)
    return (1 + BETA_SQUARED) * precision * recall / (below + nothing)


def saliency_figures(
    measures: dict[str, np.ndarray], weights: Num[np.ndarray, "r n"]
) -> dict[str, Float[np.ndarray, "r s"]]:
    """The figures of s networks on the same n images, which count `weights` times, r times over.

    By the names of `FIGURES`, of measures [s, n, …]. `f_max` is the best F-measure of the mean
    precision and recall at one level; `miou` that of PASCAL VOC: pixels of all images together,
    averaged over both classes. Images without a salient pixel have no F-measure, and are left out
    of it; NaN where no image has one.
    """
    known = ~np.isnan(measures["f_adaptive"][0])
    of_known = np.asarray(weights, np.float64)[:, known]

    def mean(name: str, used: np.ndarray = weights, chosen: Any = slice(None)) -> np.ndarray:
        sums = np.einsum("rn,sn...->rs...", used, measures[name][:, chosen], optimize=True)
        count = used.sum(axis=1).reshape(-1, *(1,) * (sums.ndim - 1))
        return sums / np.where(count > 0, count, np.nan)

    precision, recall = (mean(name, of_known, known) for name in ("precision", "recall"))
    both, either = mean("intersection"), mean("union")
    with np.errstate(invalid="ignore"):
        overlap = np.where(either > 0, both / either, np.nan)
    return {
        "f_adaptive": mean("f_adaptive", of_known, known),
        "f_max": np.max(f_measure(precision, recall), axis=-1),
        "mae": mean("mae"),
        "miou": np.nanmean(overlap, axis=-1),
    }
