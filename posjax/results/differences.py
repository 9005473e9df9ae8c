"""Paired differences: what another padding, task or set of weights changes, on the same images."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float

from posjax.encoders import Padding
from posjax.probes.controls import SELECTIVITY
from posjax.results.intervals import bootstrap_mean
from posjax.results.records import Key, ProbeSpec, Result, readouts

Rows = dict[int | None, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]
ScoresByKey = dict[Key, Rows]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Scores of `probe` less those of the same probe under `reference`: a padding, or a control.

    Means over the seeds that both have and all images, with 95 % intervals as those of
    `records.Summary`; SPC only of the pairs in which both have one: `spc_undefined` counts the
    others, and `spc` is None where no pair is left.
    """

    probe: ProbeSpec
    reference: str
    map: str
    test_images: str
    n_seeds: int
    n_images: int
    spc: tuple[float, float, float] | None
    spc_undefined: int
    mae: tuple[float, float, float]


def paired_differences(results: Sequence[Result], reference: str | None = None) -> list[Difference]:
    """Every other padding against `reference`: by default `zeros`, or the first without it.

    Aligned paddings (`valid@cropped`) are compared with the reference under the same alignment. In
    the order in which probes, maps and test images first appear, controls included. Probes without
    a counterpart (same spec and seed under the reference) are skipped.
    """
    paddings = [result.probe.padding for result in results if result.probe.padding != "none"]
    modes = [padding.partition("@")[0] for padding in paddings]
    if not modes:
        return []
    reference = reference or ("zeros" if "zeros" in modes else modes[0])

    def twins(probe: ProbeSpec) -> dict[str, ProbeSpec]:
        _, at, alignment = probe.padding.partition("@")
        padding = reference + at + alignment
        return {padding: dataclasses.replace(probe, padding=padding)}

    return _less(_by_seed(results), twins)


def between_weights(results: Sequence[Result]) -> list[Difference]:
    """Every other set of weights against the first, of the same encoder under the same padding.

    In the order in which probes, maps and test images first appear; without controls.
    """
    probes = [result.probe for result in results if not result.probe.control]
    # Pixels have none.
    first = next((probe.weights for probe in probes if probe.weights != "none"), None)

    def twins(probe: ProbeSpec) -> dict[str, ProbeSpec]:
        if probe.control or first is None:
            return {}
        return {first: dataclasses.replace(probe, weights=first)}

    return _less(_by_seed(results), twins)


def layer_differences(results: Sequence[Result]) -> list[Difference]:
    """Paddings with another mode for single layers (`zeros+a=reflect`), against those without.

    In the order in which probes, maps and test images first appear; without controls. Probes
    without a counterpart are skipped.
    """

    def twins(probe: ProbeSpec) -> dict[str, ProbeSpec]:
        if probe.control or "+" not in probe.padding:
            return {}
        mode = Padding.parse(probe.padding).mode
        return {mode: dataclasses.replace(probe, padding=mode)}

    return _less(_by_seed(results), twins)


def selectivities(results: Sequence[Result]) -> list[Difference]:
    """Scores on position maps less those of the same readouts on their control maps.

    Selectivity of Hewitt and Liang 2019 (arXiv 1909.03368): `reference` is the control task.
    """
    return _less(
        _by_seed(results),
        lambda probe: {
            control: dataclasses.replace(probe, control=control)
            for control in SELECTIVITY
            if not probe.control
        },
    )


def _less(scores: ScoresByKey, twins: Callable[[ProbeSpec], dict[str, ProbeSpec]]) -> list[Difference]:
    """Each probe's scores less those of its twins, which are given by what they are called."""
    differences = []
    for (probe, name, test_images), rows in scores.items():
        for reference, twin in twins(probe).items():
            others = scores.get((twin, name, test_images), {})
            seeds = [seed for seed in rows if seed in others]
            if probe == twin or not seeds:
                continue
            spc, mae = (
                np.stack([rows[seed][i] - others[seed][i] for seed in seeds]) for i in (0, 1)
            )
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


def _by_seed(results: Iterable[Result]) -> ScoresByKey:
    scores: ScoresByKey = {}
    for key, result, i, both in readouts(results):
        scores.setdefault(key, {})[result.seeds[i]] = both.spc[i], both.mae[i]
    return scores
