"""Paired differences: what another padding changes, on the same seeds and images."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from posjax.runs.records import Probe, Result, bootstrap_mean

Rows = dict[int | None, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Scores of `probe` less those of the same probe under `reference`, a padding mode.

    Means over the seeds that both have and all images, with 95 % intervals as those of
    `records.Summary`; SPC only of the pairs in which both have one: `spc_undefined` counts the
    others, and `spc` is None where no pair is left.
    """

    probe: Probe
    reference: str
    map: str
    test_images: str
    n_seeds: int
    n_images: int
    spc: tuple[float, float, float] | None
    spc_undefined: int
    mae: tuple[float, float, float]


def paired_differences(results: Sequence[Result]) -> list[Difference]:
    """Every other padding against `zeros`, or against the first one where zeros is absent.

    In the order in which probes, maps and test images first appear; without the probes that share
    no seed with one that is theirs in all but the padding.
    """
    paddings = [result.probe.padding for result in results]
    if not paddings:
        return []
    reference = "zeros" if "zeros" in paddings else paddings[0]
    scores = _by_seed(results)
    differences = []
    for (probe, name, test_images), rows in scores.items():
        twin = dataclasses.replace(probe, padding=reference)
        others = scores.get((twin, name, test_images), {})
        seeds = [seed for seed in rows if seed in others]
        if probe == twin or not seeds:
            continue
        spc, mae = (np.stack([rows[seed][i] - others[seed][i] for seed in seeds]) for i in (0, 1))
        differences.append(
            Difference(
                probe=probe,
                reference=reference,
                map=name,
                test_images=test_images,
                n_seeds=len(seeds),
                n_images=mae.shape[1],
                spc=bootstrap_mean(spc),
                spc_undefined=int(np.isnan(spc).sum()),
                mae=bootstrap_mean(mae),
            )
        )
    return differences


def _by_seed(results: Iterable[Result]) -> dict[tuple[Probe, str, str], Rows]:
    scores: dict[tuple[Probe, str, str], Rows] = {}
    for result in results:
        for test_images, both in result.scores.items():
            for i, (name, seed) in enumerate(zip(result.maps, result.seeds, strict=True)):
                rows = scores.setdefault((result.probe, name, test_images), {})
                rows[seed] = both.spc[i], both.mae[i]
    return scores
