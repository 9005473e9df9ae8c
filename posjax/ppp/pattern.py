"""PPP, the position-information pattern from padding: what padding adds to features, untrained.

After Lin et al., ICML 2023 (arXiv 2206.01202): the expected difference between the features of a
crop that is padded by the algorithm and those of the same crop within its true surroundings. The
expectation over images leaves what does not depend on them, which only the position can tell.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from posjax.results import Interval

ROUNDING = 1e-5  # of the features' standard deviation: smaller differences are no differences
SCORES = ("magnitude", "strength", "snr")

Jackknife = Float[np.ndarray, " k"]
"""A statistic of all images, and behind it that without each part of them in turn."""


@dataclasses.dataclass(frozen=True)
class Sums:
    """What one part of the images gives at one stage.

    `count` images, the sum of their differences D, the sum of D² over all images and units, and the
    sums of the features F within their true surroundings and of F².
    """

    count: int
    difference: Float[np.ndarray, "h w c"]
    squared_difference: float
    feature: float
    squared_feature: float


@dataclasses.dataclass(frozen=True)
class Pattern:
    """PPP at one stage, in units of the standard deviation of the stage's features.

    `map` is |E D|, the mean over channels. `magnitude` is its mean over units; chance adds about
    √(2 Var D / π n) to it. `strength` is free of that: the square root of (mean over units of
    (E D)², less the mean of Var D / n, 0 at least). `snr` is `strength` over the square root of the
    mean over units of Var D; it is NaN where no D varies, as under `valid`.
    """

    map: Float[np.ndarray, "h w"]
    magnitude: Jackknife
    strength: Jackknife
    snr: Jackknife


Patterns = dict[tuple[str, str, int | None], dict[str, Pattern]]
"""By encoder, padding and seed, the pattern of each stage."""


def pattern(parts: Sequence[Sums], rounding: float = ROUNDING) -> Pattern:
    """PPP of one stage from the sums over two or more parts of the images.

    Differences that vary by no more than `rounding` standard deviations of the features do not
    vary: it is the rounding step of the features' arithmetic where that is larger than `ROUNDING`.

    Raises:
        ValueError: there are fewer than two parts.
    """
    if len(parts) < 2:
        raise ValueError(f"an interval needs 2 parts of the images or more, not {len(parts)}")
    whole = _total(parts)
    left_out = [_total([*parts[:i], *parts[i + 1 :]]) for i in range(len(parts))]
    scores = np.array([_scores(sums, rounding) for sums in (whole, *left_out)])
    mean_map = np.abs(whole.difference).mean(axis=-1) / whole.count / _deviation(whole)
    return Pattern(mean_map, *scores.T)


def half_width(estimate: Jackknife) -> float:
    """Half of the 95 % interval over images, by Student's t."""
    left_out = estimate[1:]
    k = len(left_out)
    squares = np.square(left_out - left_out.mean()).sum()
    return _t975(k - 1) * math.sqrt((k - 1) / k * squares)


def over_seeds(estimates: Sequence[Jackknife]) -> Interval:
    """The mean over seeds with its 95 % interval: the spreads over images and over seeds added."""
    mean, n = np.mean(estimates, axis=0), len(estimates)
    of_seeds = 0.0
    if n > 1:
        variance = np.var([estimate[0] for estimate in estimates], ddof=1)
        of_seeds = _t975(n - 1) * math.sqrt(variance / n)
    half = math.hypot(half_width(mean), of_seeds)
    value = float(mean[0])
    return value, value - half, value + half


def score_interval(estimates: Sequence[Jackknife]) -> Interval:
    """As `over_seeds`, of a score that is never below 0."""
    value, low, high = over_seeds(estimates)
    return value, max(low, 0.0), high


def _t975(freedom: int) -> float:
    """The two-sided 97.5 % quantile of Student's t."""
    # Its import takes a while. A program's help need not wait for that.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def _total(parts: Sequence[Sums]) -> Sums:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Sums(*(functools.reduce(operator.add, column) for column in columns))


def _deviation(sums: Sums) -> float:
    values = sums.count * sums.difference.size
    mean = sums.feature / values
    return math.sqrt(max(sums.squared_feature / values - mean**2, 0.0)) or math.nan


def _scores(sums: Sums, rounding: float) -> tuple[float, float, float]:
    """Magnitude, strength and SNR."""
    count, scale = sums.count, _deviation(sums)
    magnitude = float(np.abs(sums.difference).mean(dtype=np.float64)) / count / scale
    # Means over units of (mean of D)² and of the variance of D.
    squared = float(np.square(sums.difference, dtype=np.float64).mean()) / count**2
    second_moment = sums.squared_difference / (count * sums.difference.size)
    variance = (second_moment - squared) * count / (count - 1) if count > 1 else 0.0
    # What rounding leaves of a constant pattern, or of features that are the same, is no variance.
    variance = variance if variance > 1e-12 * second_moment else 0.0
    square = max(squared - variance / count, 0.0)
    varies = variance > max(0.0, (rounding * scale) ** 2)
    return (
        magnitude,
        math.sqrt(square) / scale,
        math.sqrt(square / variance) if varies else math.nan,
    )
