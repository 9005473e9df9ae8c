"""Layer by layer: what the padding of each single layer adds to the position information."""

import dataclasses
from collections.abc import Sequence

from posjax.encoders import Padding
from posjax.results.differences import Difference, layer_differences, paired_differences
from posjax.results.records import Result


@dataclasses.dataclass(frozen=True)
class LayerEffect:
    """What padding one layer by `mode` in place of `other` adds to the SPC of a position map.

    `kind` is `alone` (all other layers are padded by `other`) or `without` (by `mode`), and `all`
    for all layers at once, where `layer` is None. `difference` is mode less other, (mean, low,
    high). `source` has the probe, the map and the test images.
    """

    mode: str
    other: str
    kind: str
    layer: str | None
    source: Difference
    difference: tuple[float, float, float]


def layer_effects(results: Sequence[Result]) -> list[LayerEffect]:
    """The effects of single layers, and of all at once, in the order of the results.

    Differences without a defined SPC are left out.
    """
    effects = []
    pairs: dict[tuple[str, str], None] = {}
    for row in layer_differences(results):
        padding = Padding.parse(row.probe.padding)
        if row.spc is None or len(padding.overrides) != 1:
            continue
        ((layer, to),) = padding.overrides
        base = padding.mode
        # The mode that is compared is zeros, or else the base of the pair that came first.
        mode, other = (to, base) if to == "zeros" or (to, base) in pairs else (base, to)
        pairs[mode, other] = None
        kind = "alone" if to == mode else "without"
        mean, low, high = row.spc
        difference = row.spc if kind == "alone" else (-mean, -high, -low)
        effects.append(LayerEffect(mode, other, kind, layer, row, difference))
    for mode, other in pairs:
        for row in paired_differences(results, other):
            if row.probe.padding == mode and row.spc is not None and not row.probe.control:
                effects.append(LayerEffect(mode, other, "all", None, row, row.spc))
    return effects
