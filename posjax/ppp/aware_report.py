"""The report of padding-aware channels: how many, of which border, what silencing them costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from posjax.ppp.aware import BORDERS
from posjax.ppp.aware_statistics import (
    FALSE_DISCOVERIES,
    LEAST,
    BorderEffect,
    EncoderEffects,
    aware_channels,
)
from posjax.ppp.silenced import ALIKE, AWARE
from posjax.report import tables
from posjax.report.formatting import grouped, number
from posjax.report.page import Element, Page, Picture, Table, facts
from posjax.report.panels import COLOUR_MAP, DPI, plain
from posjax.report.terminal import as_text, text_table
from posjax.results import Difference, Result, between_controls, summarise

AS_IT_IS = "the encoder as it is"
_INTRODUCTION = (
    "Which channels see the border itself? Every convolution that pads sees the middle of its input"
    " padded, as if the middle were its whole map, and the same pixels within their true"
    " surroundings. The effect is the mean difference along a border, in standard deviations of the"
    " channel's true responses; corners do not count. Nearly every channel reacts to padding. Aware"
    f" is one that a border moves by more than {LEAST:g} standard deviation, at a false discovery"
    f" rate of {FALSE_DISCOVERIES:.0%}. (After Garcia-Gasulla et al. 2023, arXiv 2309.08048.)"
    " Silenced channels give their mean everywhere. The control silences as many other channels of"
    " the same layers, for each seed other ones; where less than half of a layer is left, some of"
    " the aware ones too. Intervals are 95 %: of effects over images, of scores over seeds and"
    " images."
)
_CAPTION = (
    "The aware channels with the largest effects, which are in standard deviations. Left: the"
    " kernel, summed over input channels, each times its mean. Then the mean response to the middle"
    " of the layer's input: in its true surroundings, padded, and padded less true."
)


def write_report(
    workdir: Path,
    settings: Mapping[str, str],
    everything: Sequence[EncoderEffects],
    results: Sequence[Result],
    title: str,
    notes: Sequence[str],
) -> Path:
    """Writes `workdir`/report.html and its figures; returns the path. `settings` are shown."""
    sections: dict[str, list[Element]] = {
        "What silencing costs": _silencing(results),
        "Scores of readouts": tables.scores(tables.results_first(summarise(results))),
    }
    for i, measured in enumerate(everything):
        sections[measured.name] = _section(measured, f"aware-channels-{i}")
    sections |= {"Settings": [facts(settings)], "How to read it": [_INTRODUCTION]}
    lead: list[Element] = [*map(_sentence, everything), _counts(everything)]
    # The picture of the first network that has aware channels.
    lead += [
        e for measured in everything for e in sections[measured.name] if isinstance(e, Picture)
    ][:1]
    files = [name for name in ("padding_aware.csv", "results.csv") if (workdir / name).exists()]
    return Page(title, sections, lead, notes, files).write(workdir)


def text_tables(everything: Sequence[EncoderEffects], results: Sequence[Result]) -> str:
    """The numbers of channels and the scores as plain text."""
    texts = [measured.sentence for measured in everything if not measured.effects]
    costs = (e for e in _silencing(results) if isinstance(e, Table))
    differences = [as_text(e) for e in costs if e.caption.startswith("SPC less")]
    return "\n\n".join([as_text(_counts(everything)), *texts, text_table(results), *differences])


def _counts(everything: Sequence[EncoderEffects]) -> Table:
    """For each encoder, how many channels are aware, and of which border."""
    rows = []
    for measured in everything:
        about = [measured.encoder, measured.weights, measured.padding]
        about.append("" if measured.seed is None else str(measured.seed))
        rows.append([*about, *_count(measured.effects)])
    head = ["encoder", "weights", "padding", "seed", "channels", "aware", *BORDERS]
    return Table("Padding-aware channels", head, rows, 4)


def _sentence(measured: EncoderEffects) -> str:
    """How many channels of a network are aware, and what the borders do to most of them."""
    if not measured.effects:
        return measured.sentence
    channels, share, *of_borders = _count(measured.effects)
    listed = ", ".join(f"{n} the {b}" for b, n in zip(BORDERS, of_borders, strict=True))
    return f"{measured.name}: of {channels} channels {share} see a border ({listed})."


def _count(effects: Sequence[BorderEffect]) -> list[str]:
    channels = len({(row.layer, row.channel) for row in effects})
    aware = [row for row in effects if row.aware]
    count = sum(map(len, aware_channels(effects).values()))
    share = f"{count} ({100 * count / channels:.0f} %)" if channels else "0"
    of_borders = [str(sum(row.border == border for row in aware)) for border in BORDERS]
    return [str(channels), share, *of_borders]


def _section(measured: EncoderEffects, name: str) -> list[Element]:
    if not measured.effects:
        return [measured.sentence]
    by_layer = grouped(measured.effects, lambda row: row.layer)
    rows = []
    for layer, effects in by_layer.items():
        sizes = [abs(effect.effect) for effect in effects]
        numbers = (number(float(size), 2) for size in (np.median(sizes), max(sizes)))
        rows.append([layer, *_count(effects), *numbers])
    head = ["layer", "channels", "aware", *BORDERS, "median |effect|", "largest"]
    elements: list[Element] = [Table("Layer by layer", head, rows)]
    if measured.left_out:
        listed = ", ".join(measured.left_out)
        elements.append(f"Not measured, with too small maps, transposed or in loops: {listed}.")
    if measured.pictures:
        elements.append(Picture(name, channel_figure(measured), _CAPTION))
    return elements


def _silencing(results: Sequence[Result]) -> list[Element]:
    rows: list[Difference] = []
    for control, reference, name in (
        (AWARE, "", AS_IT_IS),
        (ALIKE, "", AS_IT_IS),
        (AWARE, ALIKE, "the encoder with random ones silenced"),
    ):
        rows += between_controls(results, control, reference, name)
    if not rows:
        return ["No channel is aware: there is nothing to silence."]
    return tables.differences(rows, "silenced encoder")


def channel_figure(measured: EncoderEffects) -> Figure:
    """The kernel and the maps of each channel that has a picture, a row for each."""
    count = len(measured.pictures)
    figure = Figure(figsize=(8.4, 1.75 * count + 0.3), dpi=DPI, layout="constrained")
    panels = figure.subplots(count, 4, squeeze=False)
    for row, ((layer, channel), maps) in zip(panels, measured.pictures.items(), strict=True):
        difference = maps.padded - maps.true
        ends = [float(end(np.stack([maps.true, maps.padded]))) for end in (np.min, np.max)]
        for panel, values in zip(
            row, (maps.kernel, maps.true, maps.padded, difference), strict=True
        ):
            if values is maps.true or values is maps.padded:
                drawn = panel.imshow(values, vmin=ends[0], vmax=ends[1], cmap=COLOUR_MAP)
            else:
                top = float(np.abs(values).max())
                drawn = panel.imshow(values, vmin=-top, vmax=top, cmap="RdBu_r")
            bar = figure.colorbar(drawn, ax=panel, shrink=0.85)
            bar.ax.tick_params(labelsize=6)
            panel.set(xticks=[], yticks=[])
        effects = [e for e in measured.effects if (e.layer, e.channel) == (layer, channel)]
        seen = ", ".join(f"{e.border} {number(e.effect, 1)}" for e in effects if e.aware)
        name = "\n".join([*layer.split("/")[-2:], f"channel {channel}", seen])
        row[0].set_ylabel(plain(name), fontsize=7, rotation=0, ha="right", va="center")
    for panel, title in zip(panels[0], ("kernel", "true", "padded", "difference"), strict=True):
        panel.set_title(title, fontsize=9)
    return figure
