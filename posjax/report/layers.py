"""Layer by layer: what the padding of each single layer carries of the position information."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from posjax.report.formatting import distinct, estimate, grouped, label, varying
from posjax.report.page import Element, Picture, Table
from posjax.report.panels import COLOURS, add_legend, panels_by_map, slug
from posjax.report.tables import pivot
from posjax.results import LayerEffect, ProbeSpec

_TEXT = (
    "The padding mode of one layer at a time is switched, under the same weights, seeds and images."
    " “Alone” is what one layer padded by the one mode adds to an encoder padded by the other"
    " everywhere else; “without” is what an encoder loses when one layer is switched to the other"
    " mode and all else is left. Where one layer’s padding is enough, “alone” comes close to the"
    " difference of all layers; where others stand in for it, “without” is near 0. They need not"
    " add up. Intervals as above."
)
# By kind: the shift from the middle of the layer's line, the mark and its colour.
_MARKS = {"alone": (-0.15, "o", COLOURS["zeros"]), "without": (0.15, "s", COLOURS["reflect"])}


def section(effects: Sequence[LayerEffect]) -> list[Element]:
    """SPC differences: a table for each pair of modes, a figure for each probe on test images."""
    elements: list[Element] = [_TEXT]
    elements += map(_table, grouped(effects, lambda row: (row.mode, row.other)).values())
    figures = grouped(
        effects, lambda row: (_without_padding(row), row.mode, row.other, row.source.test_images)
    )
    for i, ((probe, mode, other, test_images), rows) in enumerate(figures.items(), 1):
        caption = (
            f"{probe.encoder} on {test_images}: SPC that padding a layer by {mode} adds to padding"
            f" it by {other}; lines are 95 % intervals, the band is that of all layers at once."
        )
        name = f"layers-{i}-{slug(probe.encoder)}-{mode}-{other}-{slug(test_images)}"
        elements.append(Picture(name, figure(rows), caption))
    return elements


def figure(effects: Sequence[LayerEffect]) -> Figure:
    """SPC differences layer by layer with their 95 % intervals, a panel per map.

    The effects are those of one encoder, pair of modes and set of test images. Lines across the
    panel are the difference of all layers at once.
    """
    layers = distinct(row.layer for row in effects if row.layer)
    maps = distinct(row.source.map for row in effects)
    drawn, panels = panels_by_map(maps, height=1 + 0.17 * len(layers))
    legend = {}
    for (name, kind), rows in grouped(effects, lambda row: (row.source.map, row.kind)).items():
        mean, low, high = np.array([row.difference for row in rows]).T
        if kind == "all":
            legend["all layers"] = panels[name].axvline(mean[0], color="0.4", linewidth=1)
            panels[name].axvspan(low[0], high[0], color="0.4", alpha=0.15, linewidth=0)
            continue
        shift, mark, colour = _MARKS[kind]
        y = np.array([layers.index(row.layer) for row in rows if row.layer]) + shift
        # A percentile interval may lie beside its mean.
        errors = np.clip([mean - low, high - mean], 0, None)
        style = {"fmt": mark, "color": colour, "markersize": 3, "linewidth": 1}
        legend[kind] = panels[name].errorbar(mean, y, xerr=errors, **style)[0]
    for panel in panels.values():
        panel.axvline(0, color="black", linewidth=0.8)
    first = panels[maps[0]]
    first.set_yticks(range(len(layers)), layers, fontsize=7)
    first.set_ylim(len(layers) - 0.5, -0.5)
    drawn.supxlabel(f"SPC that {effects[0].mode} adds to {effects[0].other}", fontsize=9)
    add_legend(drawn, list(legend.items()))
    return drawn


def _table(effects: Sequence[LayerEffect]) -> Table:
    fields = varying(map(_without_padding, effects))[1:]
    cells = []
    for row in effects:
        source = row.source
        probe = [label(_without_padding(row), fields)] if fields else []
        labels = (*probe, source.test_images, row.layer or "", row.kind)
        text = estimate(row.difference, source.n_seeds * source.n_images)
        cells.append((labels, source.map, text))
    head = [*(["probe"] if fields else []), "test images", "layer", "layers"]
    caption = f"SPC that padding a layer by {effects[0].mode} adds to padding it by"
    return pivot(f"{caption} {effects[0].other}", head, cells, missing="undefined")


def _without_padding(effect: LayerEffect) -> ProbeSpec:
    return dataclasses.replace(effect.source.probe, padding="")
