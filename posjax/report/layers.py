"""Layer by layer: what the padding of each single layer carries of the position information."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from posjax.report.formatting import distinct, estimate, label, varying
from posjax.report.page import Element
from posjax.report.panels import COLOURS, add_legend, panels_by_map
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


def tables(effects: Sequence[LayerEffect]) -> list[Element]:
    """SPC differences: a table for each pair of modes, a row for each layer."""
    elements: list[Element] = [_TEXT]
    for mode, other in distinct((effect.mode, effect.other) for effect in effects):
        rows = [row for row in effects if (row.mode, row.other) == (mode, other)]
        fields = varying([_without_padding(row) for row in rows])[1:]
        cells = []
        for row in rows:
            probe = [label(_without_padding(row), fields)] if fields else []
            labels = (*probe, row.source.test_images, row.layer or "", row.kind)
            n_values = row.source.n_seeds * row.source.n_images
            cells.append((labels, row.source.map, estimate(row.difference, n_values)))
        head = [*(["probe"] if fields else []), "test images", "layer", "layers"]
        caption = f"SPC that padding a layer by {mode} adds to padding it by {other}"
        elements.append(pivot(caption, head, cells, missing="undefined"))
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
    for name, panel in panels.items():
        here = [row for row in effects if row.source.map == name]
        for kind in _MARKS:
            rows = [row for row in here if row.kind == kind and row.layer]
            if rows:
                legend[kind] = _points(panel, rows, layers)[0]
        for row in here:
            if row.layer is None:
                mean, low, high = row.difference
                legend["all layers"] = panel.axvline(mean, color="0.4", linewidth=1)
                panel.axvspan(low, high, color="0.4", alpha=0.15, linewidth=0)
        panel.axvline(0, color="black", linewidth=0.8)
    first = panels[maps[0]]
    first.set_yticks(range(len(layers)), layers, fontsize=7)
    first.set_ylim(len(layers) - 0.5, -0.5)
    mode, other = effects[0].mode, effects[0].other
    drawn.supxlabel(f"SPC that {mode} adds to {other}", fontsize=9)
    add_legend(drawn, list(legend.items()))
    return drawn


def by_figure(effects: Sequence[LayerEffect]) -> dict[tuple, list[LayerEffect]]:
    """The effects that a figure can show together, by probe, both modes and test images."""
    groups: dict[tuple, list[LayerEffect]] = {}
    for row in effects:
        key = (_without_padding(row), row.mode, row.other, row.source.test_images)
        groups.setdefault(key, []).append(row)
    return groups


def _points(
    panel: Axes, effects: Sequence[LayerEffect], layers: Sequence[str]
) -> ErrorbarContainer:
    shift, mark, colour = _MARKS[effects[0].kind]
    mean, low, high = np.array([row.difference for row in effects]).T
    y = np.array([layers.index(row.layer) for row in effects]) + shift
    # A percentile interval may lie beside its mean.
    errors = np.clip([mean - low, high - mean], 0, None)
    return panel.errorbar(mean, y, xerr=errors, fmt=mark, color=colour, markersize=3, linewidth=1)


def _without_padding(effect: LayerEffect) -> ProbeSpec:
    return dataclasses.replace(effect.source.probe, padding="")
