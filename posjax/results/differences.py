"""Paired differences: what another padding, task or set of weights changes, on the same images."""

import dataclasses
from collections.abc import Mapping, Sequence

from posjax.encoders import Padding
from posjax.probes.controls import SELECTIVITY
from posjax.results.intervals import Interval
from posjax.results.result import ProbeSpec, Result, by_key
from posjax.results.summaries import Means, means, stacked


@dataclasses.dataclass(frozen=True)
class Difference(Means):
    """Scores of `probe` less those of the same probe under `reference`, over the seeds of both.

    `reference` is a padding, a set of weights or a control. An SPC is undefined where either is.
    """

    reference: str


@dataclasses.dataclass(frozen=True)
class LayerEffect:
    """What padding one layer by `mode` in place of `other` adds to the SPC of a position map.

    `kind` is `alone` (all other layers are padded by `other`) or `without` (by `mode`), and `all`
    for all layers at once, where `layer` is None. `difference` is mode less other. `source` has the
    probe, the map and the test images.
    """

    mode: str
    other: str
    kind: str
    layer: str | None
    source: Difference
    difference: Interval


def paired_differences(results: Sequence[Result], reference: str | None = None) -> list[Difference]:
    """Every other padding against `reference`: by default `zeros`, or the first without it.

    Aligned paddings (`valid@cropped`) are compared with the reference under the same alignment. In
    the order in which probes, maps and test images first appear, controls included. Probes without
    a counterpart (same spec and seed under the reference) are skipped.
    """
    probes = _probes(results)
    modes = [p.padding.partition("@")[0] for p in probes if p.padding != "none"]
    if not modes:
        return []
    reference = reference or ("zeros" if "zeros" in modes else modes[0])
    references = {}
    for probe in probes:
        _, at, alignment = probe.padding.partition("@")
        padding = reference + at + alignment
        references[probe] = {padding: dataclasses.replace(probe, padding=padding)}
    return _subtract(results, references)


def between_weights(results: Sequence[Result]) -> list[Difference]:
    """Every other set of weights against the first, of the same encoder under the same padding.

    In the order in which probes, maps and test images first appear; without controls.
    """
    # Pixels have no weights.
    probes = [p for p in _probes(results) if not p.control and p.weights != "none"]
    first = probes[0].weights if probes else ""
    references = {p: {first: dataclasses.replace(p, weights=first)} for p in probes}
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


def between_controls(
    results: Sequence[Result], control: str, reference: str, name: str
) -> list[Difference]:
    """The scores of probes by one control less those of the same probes by another, or by none.

    `reference` is a control, or empty for none; the differences call it `name`.
    """
    references = {
        probe: {name: dataclasses.replace(probe, control=reference)}
        for probe in _probes(results)
        if probe.control == control
    }
    return _subtract(results, references)


def layer_effects(results: Sequence[Result]) -> list[LayerEffect]:
    """The effects of single layers (`zeros+a=reflect` less `zeros`), and of all at once.

    In the order of the results. Controls, and differences without a defined SPC, are left out.
    """
    references = {}
    for probe in _probes(results):
        padding = Padding.parse(probe.padding) if "+" in probe.padding else None
        if padding and len(padding.overrides) == 1 and not probe.control:
            references[probe] = {padding.mode: dataclasses.replace(probe, padding=padding.mode)}
    effects = []
    pairs: dict[tuple[str, str], None] = {}
    for row in _subtract(results, references):
        if row.spc is None:
            continue
        ((layer, to),) = Padding.parse(row.probe.padding).overrides
        base = row.reference
        # The mode that is compared is zeros, or else the base of the pair that came first.
        mode, other = (to, base) if to == "zeros" or (to, base) in pairs else (base, to)
        pairs[mode, other] = None
        mean, low, high = row.spc
        alone = to == mode
        difference = row.spc if alone else (-mean, -high, -low)
        kind = "alone" if alone else "without"
        effects.append(LayerEffect(mode, other, kind, layer, row, difference))
    for mode, other in pairs:
        for row in paired_differences(results, other):
            if row.probe.padding == mode and row.spc is not None and not row.probe.control:
                effects.append(LayerEffect(mode, other, "all", None, row, row.spc))
    return effects


def _probes(results: Sequence[Result]) -> list[ProbeSpec]:
    return list(dict.fromkeys(probe for probe, _, _ in by_key(results)))


def _subtract(
    results: Sequence[Result], references: Mapping[ProbeSpec, Mapping[str, ProbeSpec]]
) -> list[Difference]:
    """The scores of each probe less those of its references, by their names in the differences."""
    groups = {key: {r.seed: r for r in group} for key, group in by_key(results).items()}
    differences = []
    for key, ours in groups.items():
        for reference, other in references.get(key[0], {}).items():
            theirs = groups.get((other, *key[1:]), {})
            seeds = [seed for seed in ours if seed in theirs]
            if key[0] == other or not seeds:
                continue
            sides = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
            spc, mae = (
                stacked(sides[0], name) - stacked(sides[1], name) for name in ("spc", "mae")
            )
            differences.append(Difference(**vars(means(key, spc, mae)), reference=reference))
    return differences
