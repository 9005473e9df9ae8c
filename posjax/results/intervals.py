"""Intervals: crossed bootstraps over seeds and images."""

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
CHUNK = 1 << 19  # values drawn at a time: bounds the memory, not the result's precision


def bootstrap_mean(
    values: Float[np.ndarray, "seeds images"], resamples: int = RESAMPLES
) -> tuple[float, float, float] | None:
    """Mean of all defined values, and the 95 % percentile interval of a crossed bootstrap.

    Each of the resamples draws seeds with replacement, and images with replacement, the same ones
    for all its seeds: every seed was measured on the same images, so what an image adds is shared
    (Owen 2007, the pigeonhole bootstrap). NaN is left out, resamples without a defined value are
    drawn anew; None where nothing is defined. The resamples are the same on every call.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        return None
    known = np.where(defined, values, 0).astype(np.float64)
    images = values.shape[1]
    rng = np.random.default_rng(0)
    means = []
    while (left := resamples - len(means)) > 0:
        chunk = min(left, max(1, CHUNK // images))
        # How often each is drawn is all that a mean needs to know of a resample.
        of_seeds, of_images = (
            rng.multinomial(n, np.full(n, 1 / n), size=chunk).astype(float) for n in values.shape
        )
        totals = np.sum((of_seeds @ known) * of_images, axis=1)
        counts = np.sum((of_seeds @ defined) * of_images, axis=1)
        means.extend(totals[counts > 0] / counts[counts > 0])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(known.sum() / defined.sum()), float(low), float(high)


def bootstrap_rings(
    values: Float[np.ndarray, "seeds images rings"], resamples: int = 500
) -> Float[np.ndarray, "3 rings"]:
    """Means and intervals as those of `bootstrap_mean` for every ring; NaN where none is defined.

    A resample that draws no defined value of a ring is left out there.
    """
    defined = ~np.isnan(values)
    known = np.where(defined, values, 0).astype(np.float64)
    rng = np.random.default_rng(0)
    of_seeds, of_images = (
        rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
        for n in values.shape[:2]
    )
    totals, counts = (
        np.einsum("ks,ki,sir->kr", of_seeds, of_images, x, optimize=True) for x in (known, defined)
    )
    with np.errstate(invalid="ignore"):
        means = totals / counts
        whole = known.sum(axis=(0, 1)) / defined.sum(axis=(0, 1))
    bounds = np.full((2, values.shape[2]), np.nan)
    there = defined.any(axis=(0, 1))
    bounds[:, there] = np.nanquantile(means[:, there], (0.025, 0.975), axis=0)
    return np.concatenate([whole[None], bounds])
