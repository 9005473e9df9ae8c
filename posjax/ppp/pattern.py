"""PPP, the position-information pattern from padding: what padding adds to features, untrained.

After Lin et al., ICML 2023 (arXiv 2206.01202): the expected difference between the features of a
crop that is padded by the algorithm and those of the same crop within its true surroundings. The
expectation over images leaves what does not depend on them, which only the position can tell.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

ROUNDING = 1e-5  # of the features' standard deviation: smaller differences are no differences


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
class Jackknife:
    """A statistic of all images, and without each part of them in turn: what its spread is."""

    value: float
    left_out: Float[np.ndarray, " parts"]

    def __sub__(self, other: "Jackknife") -> "Jackknife":
        """The difference on the same parts of the images."""
        return Jackknife(self.value - other.value, self.left_out - other.left_out)

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval over images, by Student's t."""
        k = len(self.left_out)
        squares = np.square(self.left_out - self.left_out.mean()).sum()
        return _t975(k - 1) * math.sqrt((k - 1) / k * squares)


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

SCORES = ("magnitude", "strength", "snr")


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
    scale = _deviation(whole)
    return Pattern(
        map=np.abs(whole.difference).mean(axis=-1) / whole.count / scale,
        magnitude=_jackknife(_magnitude, whole, left_out),
        strength=_jackknife(_strength, whole, left_out),
        snr=_jackknife(lambda sums: _snr(sums, rounding), whole, left_out),
    )


def mean(estimates: Sequence[Jackknife]) -> Jackknife:
    """The mean of several statistics of the same parts of the images."""
    return Jackknife(
        float(np.mean([estimate.value for estimate in estimates])),
        np.mean([estimate.left_out for estimate in estimates], axis=0),
    )


def over_seeds(estimates: Sequence[Jackknife]) -> tuple[float, float, float]:
    """The mean over seeds with its 95 % interval: the spreads over images and over seeds added."""
    whole, n = mean(estimates), len(estimates)
    variance = np.var([estimate.value for estimate in estimates], ddof=1) if n > 1 else 0.0
    of_seeds = _t975(n - 1) * math.sqrt(variance / n) if n > 1 else 0.0
    half = math.hypot(whole.half_width, of_seeds)
    return whole.value, whole.value - half, whole.value + half


def score_interval(estimates: Sequence[Jackknife]) -> tuple[float, float, float]:
    """As `over_seeds`, of a score that is never below 0."""
    value, low, high = over_seeds(estimates)
    return value, max(low, 0.0), high


def _jackknife(
    statistic: Callable[[Sums], float], whole: Sums, left_out: Sequence[Sums]
) -> Jackknife:
    return Jackknife(statistic(whole), np.array([statistic(part) for part in left_out]))


def _t975(freedom: int) -> float:
    """The two-sided 97.5 % quantile of Student's t."""
    # Its import takes a while. A program's help need not wait for that.
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def _total(parts: Sequence[Sums]) -> Sums:
    names = [field.name for field in dataclasses.fields(Sums)]
    values = {name: [getattr(part, name) for part in parts] for name in names}
    return Sums(**{name: functools.reduce(operator.add, each) for name, each in values.items()})


def _deviation(sums: Sums) -> float:
    values = sums.count * sums.difference.size
    mean = sums.feature / values
    return math.sqrt(max(sums.squared_feature / values - mean**2, 0.0)) or math.nan


def _magnitude(sums: Sums) -> float:
    return float(np.abs(sums.difference).mean(dtype=np.float64)) / sums.count / _deviation(sums)


def _strength(sums: Sums) -> float:
    squared, variance = _squares(sums)
    chance = 0.0 if math.isnan(variance) else variance / sums.count
    return math.sqrt(max(squared - chance, 0.0)) / _deviation(sums)


def _snr(sums: Sums, rounding: float) -> float:
    squared, variance = _squares(sums, rounding)
    return math.sqrt(max(squared - variance / sums.count, 0.0) / variance)


def _squares(sums: Sums, rounding: float = 0.0) -> tuple[float, float]:
    """Means over units of (mean of D)² and of the variance of D; NaN where D does not vary."""
    squared_mean = float(np.square(sums.difference, dtype=np.float64).mean()) / sums.count**2
    second_moment = sums.squared_difference / (sums.count * sums.difference.size)
    if sums.count < 2:
        return squared_mean, math.nan
    variance = (second_moment - squared_mean) * sums.count / (sums.count - 1)
    # What rounding leaves of a constant pattern, or of features that are the same, is no variance.
    varies = variance > max(1e-12 * second_moment, (rounding * _deviation(sums)) ** 2)
    return squared_mean, variance if varies else math.nan
