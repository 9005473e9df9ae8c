"""Summaries: the scores of a probe over all its seeds, with intervals."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from posjax.probes import constant_mae
from posjax.probes.controls import task_map
from posjax.probes.scores import Scores
from posjax.results.intervals import bootstrap_defined, bootstrap_mean
from posjax.results.records import Key, ProbeSpec, Result, readouts


@dataclasses.dataclass(frozen=True)
class Summary:
    """A probe and position map on one set of test images, over all its seeds.

    Means over seeds and images, with 95 % intervals of a bootstrap over both; SPC is
    None where every prediction is constant.
    """

    probe: ProbeSpec
    map: str
    test_images: str
    n_seeds: int
    n_images: int
    spc: tuple[float, float, float] | None
    spc_undefined: int
    mae: tuple[float, float, float]
    mae_constant: float
    skill: float


def summarise(results: Iterable[Result]) -> list[Summary]:
    """Summaries over seeds, in the order in which probes, maps and test images first appear.

    Results of one probe may be several, each with other seeds.
    """
    groups: dict[Key, list[tuple[Result, int, Scores]]] = {}
    for key, result, i, scores in readouts(results):
        groups.setdefault(key, []).append((result, i, scores))
    summaries = []
    for (probe, name, test_images), rows in groups.items():
        spc, mae = (
            np.stack([getattr(scores, score)[i] for _, i, scores in rows])
            for score in ("spc", "mae")
        )
        first, i, _ = rows[0]
        constant = float(constant_mae(task_map(first.tasks[i], first.map_size)))
        error = bootstrap_defined(mae)
        summaries.append(
            Summary(
                probe=probe,
                map=name,
                test_images=test_images,
                n_seeds=len(rows),
                n_images=mae.shape[1],
                spc=bootstrap_mean(spc),
                spc_undefined=int(np.isnan(spc).sum()),
                mae=error,
                mae_constant=constant,
                skill=1 - error[0] / constant,
            )
        )
    return summaries
