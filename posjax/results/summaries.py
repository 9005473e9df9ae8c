"""Summaries: scores over all seeds with intervals, as means and by distance to the border."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from posjax.probes import constant_mae
from posjax.probes.controls import task_map
from posjax.results.intervals import Interval, bootstrap_mean, bootstrap_rings
from posjax.results.result import Key, ProbeSpec, ReadoutScores, Result, by_key


@dataclasses.dataclass(frozen=True)
class Means:
    """Means over the seeds and images of a probe and position map, with 95 % intervals.

    `spc_undefined` counts the values without an SPC; `spc` is None where there are no others.
    """

    probe: ProbeSpec
    map: str
    test_images: str
    n_seeds: int
    n_images: int
    spc: Interval | None
    spc_undefined: int
    mae: Interval


@dataclasses.dataclass(frozen=True)
class Summary(Means):
    """The scores of a probe; `mae_constant` is the MAE of the best constant prediction."""

    mae_constant: float

    @property
    def skill(self) -> float:
        """1 - MAE / MAE of the best constant."""
        return 1 - self.mae[0] / self.mae_constant


@dataclasses.dataclass(frozen=True)
class Profile:
    """A probe and position map on one set of test images, ring by ring from the border inwards.

    `spc` and `mae` are means over seeds and images with their 95 % intervals (mean, low, high);
    `error` is the mean absolute error in 28 x 28 cells.
    """

    probe: ProbeSpec
    map: str
    test_images: str
    spc: Float[np.ndarray, "3 14"]
    mae: Float[np.ndarray, "3 14"]
    error: Float[np.ndarray, "28 28"]


def summarise(results: Iterable[Result]) -> list[Summary]:
    """Summaries over seeds, in the order in which probes, maps and test images first appear.

    Results of one probe may be several, each with other seeds.
    """
    return [summarise_seeds(group) for group in by_key(results).values()]


def profiles(results: Iterable[Result]) -> list[Profile]:
    """Profiles over seeds of what is no control, in the order in which they first appear.

    Results whose maps are too small for a profile are left out.
    """
    profiles = []
    for key, group in by_key(results).items():
        if group[0].scores.error is not None and not key[0].control:
            spc, mae, error = (stacked(group, name) for name in ("ring_spc", "ring_mae", "error"))
            rings = bootstrap_rings(spc), bootstrap_rings(mae)
            profiles.append(Profile(*key, *rings, error.mean(axis=0)))
    return profiles


def summarise_seeds(group: Sequence[ReadoutScores]) -> Summary:
    """The summary of readouts that differ in their seed alone."""
    first = group[0]
    constant = float(constant_mae(task_map(first.task, first.map_size)))
    scores = means(first.key, stacked(group, "spc"), stacked(group, "mae"))
    return Summary(**vars(scores), mae_constant=constant)


def stacked(group: Sequence[ReadoutScores], name: str) -> np.ndarray:
    """The field `name` of the `Scores` of all readouts: seeds are its first axis."""
    return np.concatenate([getattr(readout.scores, name) for readout in group])


def means(
    key: Key, spc: Float[np.ndarray, "seeds images"], mae: Float[np.ndarray, "seeds images"]
) -> Means:
    """The means of single values; NaN is an SPC that is undefined."""
    interval = bootstrap_mean(mae)
    assert interval is not None  # every prediction has an MAE
    undefined = int(np.isnan(spc).sum())
    seeds, images = mae.shape
    return Means(*key, seeds, images, bootstrap_mean(spc), undefined, interval)
