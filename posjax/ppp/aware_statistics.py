"""Which channels are aware of padding: those that a border moves by more than content does."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from posjax.ppp.aware import BORDERS, LayerBorders
from posjax.ppp.aware_maps import Channel, ChannelMaps

LEAST = 1.0  # standard deviations that a border moves an aware channel
FALSE_DISCOVERIES = 0.01


@dataclasses.dataclass(frozen=True)
class BorderEffect:
    """What padding adds to one channel at one border, in standard deviations of its responses.

    `effect` is a mean over images, `low` and `high` its 95 % interval by Student's t. `p` is that
    of an effect no larger than the least that counts.
    """

    layer: str
    channel: int
    border: str
    effect: float
    low: float
    high: float
    p: float
    aware: bool


@dataclasses.dataclass(frozen=True)
class EncoderEffects:
    """The effects of padding in one encoder, by layer, channel and border.

    `left_out` are layers that cannot be measured; `pictures` are those of the strongest aware
    channels, of the first seed.
    """

    encoder: str
    weights: str
    padding: str
    seed: int | None
    effects: Sequence[BorderEffect]
    left_out: Sequence[str]
    pictures: dict[Channel, ChannelMaps]

    @property
    def name(self) -> str:
        """The encoder in words."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.encoder}, {self.weights} weights, {self.padding}{seed}"

    @property
    def sentence(self) -> str:
        """Why there are no effects."""
        listed = ", ".join(self.left_out)
        small = f"{listed} have too small maps, are transposed or in loops"
        why = small if listed else "no layer pads"
        return f"{self.name}: {why}. There is no channel that could be aware of padding."


def border_effects(
    layers: Mapping[str, LayerBorders], least: float = LEAST, rate: float = FALSE_DISCOVERIES
) -> list[BorderEffect]:
    """The effects of all channels at all borders, and which channels are aware.

    Nearly every channel reacts to padding, because its weights do not add up to 0: that an effect
    is not 0 says little. The null hypothesis is that it is no larger than `least` standard
    deviations, a minimum-effect test (Murphy and Myors 1999, doi:10.1037/0021-9010.84.2.234), with
    Student's t over images: aware is a channel that the border moves by more than content does.
    Benjamini and Hochberg's procedure over all layers, channels and borders holds the expected part
    of false ones among the aware at `rate`. Nothing is assumed of how effects are spread within a
    layer, all of whose channels may be aware.

    Channels that never vary, and borders that padding does not reach, are left out.
    """
    from scipy.special import stdtr, stdtrit
    from scipy.stats import false_discovery_control

    rows: list[BorderEffect] = []
    for layer, borders in layers.items():
        scale = borders.deviation
        differences = borders.difference / np.where(scale > 0, scale, np.nan)
        n = len(differences)
        effect = differences.mean(axis=0, dtype=np.float64)
        error = differences.std(axis=0, ddof=1, dtype=np.float64) / np.sqrt(n)
        half = stdtrit(n - 1, 0.975) * error
        # Without noise the effect itself decides.
        p = stdtr(n - 1, (least - np.abs(effect)) / np.maximum(error, 1e-12))
        for b, c in np.argwhere(np.isfinite(effect)).tolist():
            numbers = (x[b, c].item() for x in (effect, effect - half, effect + half, p))
            rows.append(BorderEffect(layer, c, BORDERS[b], *numbers, aware=False))
    adjusted = false_discovery_control([row.p for row in rows]) if rows else ()
    return [
        dataclasses.replace(row, aware=bool(q <= rate))
        for row, q in zip(rows, adjusted, strict=True)
    ]


def aware_channels(effects: Sequence[BorderEffect]) -> dict[str, tuple[int, ...]]:
    """By layer, the channels that are aware at some border; layers without one are left out."""
    aware: dict[str, set[int]] = {}
    for row in effects:
        if row.aware:
            aware.setdefault(row.layer, set()).add(row.channel)
    return {layer: tuple(sorted(channels)) for layer, channels in aware.items()}
