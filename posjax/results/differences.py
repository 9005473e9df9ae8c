"""Paired differences: what another padding, task or set of weights changes, on the same images."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from posjax.encoders import Padding
from posjax.probes.controls import SELECTIVITY
from posjax.results.intervals import bootstrap_mean
from posjax.results.records import Key, ProbeSpec, Result, readouts

RowsBySeed = dict[int | None, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]
"""By seed, SPC and MAE of every image."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Scores of `probe` less those of the same probe under `reference`: a padding, or a control.

    Means over the seeds that both have and all images, with 95 % intervals as those of
    `summaries.Summary`; SPC only of the pairs in which both have one: `spc_undefined` counts the
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
    references = {}
    for probe in _probes(results):
        _, at, alignment = probe.padding.partition("@")
        padding = reference + at + alignment
        references[probe] = {padding: dataclasses.replace(probe, padding=padding)}
    return _subtract(results, references)


def between_weights(results: Sequence[Result]) -> list[Difference]:
    """Every other set of weights against the first, of the same encoder under the same padding.

    In the order in which probes, maps and test images first appear; without controls.
    """
    # Pixels have no weights.
    probes = [probe for probe in _probes(results) if not probe.control and probe.weights != "none"]
    first = probes[0].weights if probes else ""
    references = {probe: {first: dataclasses.replace(probe, weights=first)} for probe in probes}
    return _subtract(results, references)


def layer_differences(results: Sequence[Result]) -> list[Difference]:
    """Paddings with another mode for single layers (`zeros+a=reflect`), against those without.

    In the order in which probes, maps and test images first appear; without controls. Probes
    without a counterpart are skipped.
    """
    references = {}
    for probe in _probes(results):
        if not probe.control and "+" in probe.padding:
            mode = Padding.parse(probe.padding).mode
            references[probe] = {mode: dataclasses.replace(probe, padding=mode)}
    return _subtract(results, references)


def selectivities(results: Sequence[Result]) -> list[Difference]:
    """Scores on position maps less those of the same readouts on their control maps.

    Selectivity of Hewitt and Liang 2019 (arXiv 1909.03368): `reference` is the control task.
    """
    references = {
        probe: {control: dataclasses.replace(probe, control=control) for control in SELECTIVITY}
        for probe in _probes(results)
        if not probe.control
    }
    return _subtract(results, references)


def _probes(results: Sequence[Result]) -> list[ProbeSpec]:
    return list(dict.fromkeys(probe for (probe, _, _), *_ in readouts(results)))


def _subtract(
    results: Sequence[Result], references: Mapping[ProbeSpec, Mapping[str, ProbeSpec]]
) -> list[Difference]:
    """The scores of each probe less those of its references, by what each of them is called."""
    scores: dict[Key, RowsBySeed] = {}
    for key, result, i, both in readouts(results):
        scores.setdefault(key, {})[result.seeds[i]] = both.spc[i], both.mae[i]
    differences = []
    for (probe, name, test_images), rows in scores.items():
        for reference, other in references.get(probe, {}).items():
            others = scores.get((other, name, test_images), {})
            seeds = [seed for seed in rows if seed in others]
            if probe == other or not seeds:
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
