"""Layer by layer: what the padding of each single layer carries of the position information."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from posjax.report import page
from posjax.report.figures import COLOURS, add_legend, panels_by_map
from posjax.results import LayerEffect
from posjax.report.formatting import distinct, estimate, label, varying

TEXT = (
    "The padding mode of one layer at a time is switched, under the same weights, seeds and images."
    " “Alone” is what one layer padded by the one mode adds to an encoder padded by the other"
    " everywhere else; “without” is what an encoder loses when one layer is switched to the other"
    " mode and all else is left. Where one layer’s padding is enough, “alone” comes close to the"
    " difference of all layers; where others stand in for it, “without” is near 0. They need not"
    " add up. Intervals as above."
)


def table(rows: Sequence[LayerEffect]) -> str:
    """SPC differences as HTML: a table for each pair of modes, a row for each layer."""
    parts = [page.paragraph(TEXT)]
    for (mode, other), several in _by(rows, lambda row: (row.mode, row.other)).items():
        maps = distinct(row.source.map for row in several)
        probes = [dataclasses.replace(row.source.probe, padding="") for row in several]
        fields = varying(probes)[1:]
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for row, probe in zip(several, probes, strict=True):
            key = (
                label(probe, fields) if fields else "",
                row.source.test_images,
                row.layer or "",
                row.kind,
            )
            n_values = row.source.n_seeds * row.source.n_images
            lines.setdefault(key, {})[row.source.map] = estimate(row.difference, n_values)
        cells = [
            [*key[0 if fields else 1 :], *(line.get(name, "undefined") for name in maps)]
            for key, line in lines.items()
        ]
        head = [*(["probe"] if fields else []), "test images", "layer", "layers", *maps]
        caption = f"SPC that padding a layer by {mode} adds to padding it by {other}"
        parts.append(page.table(caption, head, cells, len(head) - len(maps)))
    return "\n".join(parts)


def figure(rows: Sequence[LayerEffect]) -> Figure:
    """SPC differences layer by layer with their 95 % intervals, a panel per map.

    The rows are those of one encoder, pair of modes and set of test images. Lines across the panel
    are the difference of all layers at once.
    """
    layers = distinct(row.layer for row in rows if row.layer)
    maps = distinct(row.source.map for row in rows)
    drawn, panels = panels_by_map(maps, height=1 + 0.17 * len(layers))
    marks = {"alone": ("o", COLOURS["zeros"]), "without": ("s", COLOURS["reflect"])}
    legend = {}
    for name, panel in panels.items():
        for shift, (kind, (mark, colour)) in zip((-0.15, 0.15), marks.items(), strict=True):
            own = [r for r in rows if r.source.map == name and r.kind == kind and r.layer]
            if own:
                mean, low, high = np.array([row.difference for row in own]).T
                y = np.array([layers.index(row.layer) for row in own]) + shift
                # A percentile interval may lie beside its mean.
                errors = np.clip([mean - low, high - mean], 0, None)
                style = {"fmt": mark, "color": colour, "markersize": 3, "linewidth": 1}
                legend[kind] = panel.errorbar(mean, y, xerr=errors, **style)[0]
        for row in rows:
            if row.source.map == name and row.layer is None:
                mean, low, high = row.difference
                legend["all layers"] = panel.axvline(mean, color="0.4", linewidth=1)
                panel.axvspan(low, high, color="0.4", alpha=0.15, linewidth=0)
        panel.axvline(0, color="black", linewidth=0.8)
    first = panels[maps[0]]
    first.set_yticks(range(len(layers)), layers, fontsize=7)
    first.set_ylim(len(layers) - 0.5, -0.5)
    mode, other = rows[0].mode, rows[0].other
    drawn.supxlabel(f"SPC that {mode} adds to {other}", fontsize=9)
    add_legend(drawn, list(legend.items()))
    return drawn


def by_figure(rows: Sequence[LayerEffect]) -> dict[tuple, list[LayerEffect]]:
    """The rows that a figure can show together, by what they have in common."""

    def common(row: LayerEffect) -> tuple:
        probe = dataclasses.replace(row.source.probe, padding="")
        return probe, row.mode, row.other, row.source.test_images

    return _by(rows, common)


def _by(
    rows: Sequence[LayerEffect], key: Callable[[LayerEffect], tuple]
) -> dict[tuple, list[LayerEffect]]:
    groups: dict[tuple, list[LayerEffect]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
