"""Intervals: crossed bootstraps over seeds and images."""

import numpy as np
from jaxtyping import Float

Interval = tuple[float, float, float]
"""A mean, and the low and the high end of its 95 % interval."""

RESAMPLES = 2000
CHUNK = 1 << 19  # values drawn at a time: bounds the memory, not the result's precision
_ENDS = (0.025, 0.975)


def bootstrap_mean(
    values: Float[np.ndarray, "seeds images"], resamples: int = RESAMPLES
) -> Interval | None:
    """Mean of all defined values, and the 95 % percentile interval of a crossed bootstrap.

    Each resample draws seeds with replacement, and images with replacement, the same ones for all
    its seeds: every seed was measured on the same images (Owen 2007, the pigeonhole bootstrap). NaN
    is left out, and a resample without a defined value is replaced; None where nothing is defined.
    The resamples are the same on every call.
    """
    if np.isnan(values).all():
        return None
    rng = np.random.default_rng(0)
    means: list[float] = []
    while (left := resamples - len(means)) > 0:
        chunk = min(left, max(1, CHUNK // values.shape[1]))
        drawn = _resampled_means(values[:, :, None], rng, chunk)[:, 0]
        means.extend(drawn[~np.isnan(drawn)])
    low, high = np.quantile(means, _ENDS)
    return float(np.nanmean(values, dtype=np.float64)), float(low), float(high)


def bootstrap_rings(
    values: Float[np.ndarray, "seeds images rings"], resamples: int = 500
) -> Float[np.ndarray, "3 rings"]:
    """Means and intervals as those of `bootstrap_mean` for every ring; NaN where none is defined.

    A resample that draws no defined value of a ring is left out there.
    """
    bounds = np.full((3, values.shape[2]), np.nan)
    defined = ~np.isnan(values).all(axis=(0, 1))
    means = _resampled_means(values[:, :, defined], np.random.default_rng(0), resamples)
    bounds[0, defined] = np.nanmean(values[:, :, defined], axis=(0, 1), dtype=np.float64)
    bounds[1:, defined] = np.nanquantile(means, _ENDS, axis=0)
    return bounds


def _resampled_means(
    values: Float[np.ndarray, "seeds images rings"], rng: np.random.Generator, resamples: int
) -> Float[np.ndarray, "resamples rings"]:
    """Means over seeds and images that are drawn with replacement; NaN where none is defined."""
    # How often each is drawn is all that a mean needs to know of a resample.
    of_seeds, of_images = (
        rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
        for n in values.shape[:2]
    )
    defined = ~np.isnan(values)
    totals, counts = (
        np.einsum("ks,ki,sir->kr", of_seeds, of_images, part, optimize=True)
        for part in (np.where(defined, values, 0).astype(np.float64), defined.astype(np.float64))
    )
    with np.errstate(invalid="ignore"):
        return totals / counts
