"""Figures: scores with their intervals, losses, predicted maps, and what differs by place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from posjax.encoders import PIXELS
from posjax.probes import position_map
from posjax.probes.controls import Task
from posjax.probes.profiles import CELLS, RINGS
from posjax.report.formatting import distinct, label, short, varying, words
from posjax.report.panels import (
    COLOUR_MAP,
    DPI,
    add_legend,
    line_legend,
    line_styles,
    panels_by_map,
    plain,
)
from posjax.results import ProbeSpec, Profile, Result, Summary

_CONSTANT = {"color": "0.35", "linewidth": 1, "linestyle": "--"}
_MARKS = ("o", "s", "^", "D", "v", "P")
_MARK = {"color": "0.45", "markerfacecolor": "0.85", "markersize": 4, "linestyle": "none"}
_SPANS = 200  # points of a loss curve
_CELL, _GAP = 112, 6  # pixels: a picture of the gallery, and the space to the next


def bars(
    summaries: Sequence[Summary],
    metric: Literal["spc", "mae"],
    controls: Sequence[Summary] = (),
) -> Figure:
    """Mean scores as bars with their 95 % intervals.

    One panel per map, one group of bars per probe, one bar per set of test images. An SPC that is
    undefined on all images is written as such, a bar is hatched where it is on some. Beside MAE
    stands that of the best constant. `controls` are marks beside the bars of their encoder and
    padding, those of the pixels beside all.

    Raises:
        ValueError: there are no summaries.
    """
    maps = distinct(summary.map for summary in summaries)
    probes = distinct(summary.probe for summary in summaries)
    sets = distinct(summary.test_images for summary in summaries)
    # Tints, so that an interval stands out from its bar.
    tints = 0.3 + 0.7 * COLOUR_MAP(np.linspace(0.3, 0.9, len(sets)))[:, :3]
    legend = [(short(name), Patch(facecolor=tint)) for name, tint in zip(sets, tints, strict=True)]
    thickness = 0.8 / max(1, len(sets))
    figure, panels = panels_by_map(maps, height=1 + len(probes) * max(0.3, 0.15 * len(sets)))
    for summary in summaries:
        panel, i = panels[summary.map], sets.index(summary.test_images)
        y = probes.index(summary.probe) + (i - (len(sets) - 1) / 2) * thickness
        _bar(panel, y, summary, metric, {"height": thickness, "color": tints[i]})
        if metric == "mae":
            panel.axvline(summary.mae_constant, **_CONSTANT)
    kinds = distinct(row.probe.control for row in controls)
    marks = dict(zip(kinds, _MARKS, strict=False))
    for control in controls:
        if control.map in panels and control.spc and control.probe.control in marks:
            i = sets.index(control.test_images)
            for y in (j for j, probe in enumerate(probes) if _belongs(control.probe, probe)):
                height = y + (i - (len(sets) - 1) / 2) * thickness
                mark = {**_MARK, "marker": marks[control.probe.control]}
                panels[control.map].plot(control.spc[0], height, **mark)
    legend += [(words(kind), Line2D([], [], **_MARK, marker=marks[kind])) for kind in marks]
    for panel in panels.values():
        panel.axvline(0, color="black", linewidth=0.8)
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.grid(visible=False, axis="y")
    first, fields = panels[maps[0]], varying(probes)
    first.set_yticks(range(len(probes)), [plain(label(probe, fields)) for probe in probes])
    first.set_ylim(len(probes) - 0.45, -0.55)
    if metric == "mae":
        first.set_xlim(left=0)
        first.xaxis.set_major_locator(MaxNLocator(4))
        figure.supxlabel("MAE (lower is better)", fontsize=9)
        add_legend(figure, [*legend, ("best constant", Line2D([], [], **_CONSTANT))])
    else:
        low = min((summary.spc[1] for summary in summaries if summary.spc), default=0)
        first.set_xlim(-1.02 if low < -0.1 else min(low, 0) - 0.02, 1.02)
        figure.supxlabel("SPC (higher is better)", fontsize=9)
        add_legend(figure, legend)
    return figure


def _belongs(control: ProbeSpec, probe: ProbeSpec) -> bool:
    """Whether a control is one of this probe: other weights or images, the same in all else."""
    if control.control == PIXELS:
        return True
    about = (replace(one, control="", weights="") for one in (control, probe))
    return len({*about}) == 1


def _bar(panel: Axes, y: float, summary: Summary, metric: str, style: dict) -> None:
    score = getattr(summary, metric)
    if score is None:
        shift = {"xytext": (3, 0), "textcoords": "offset points", "va": "center_baseline"}
        panel.annotate("undef.", (0, y), fontsize=6.5, color="0.3", **shift)
        return
    mean, low, high = score
    hatch = "//////" if metric == "spc" and summary.spc_undefined else None
    panel.barh(y, mean, edgecolor="white", linewidth=0.5, hatch=hatch, **style)
    panel.plot((low, high), (y, y), color="black", linewidth=1.2, solid_capstyle="butt")


def losses(results: Sequence[Result]) -> Figure:
    """Training losses: mean squared errors, means over seeds and over up to 200 spans of steps.

    One panel per map, one line per probe in the colour of its padding. The dashed line is the
    variance of the map: the loss of the best constant.

    Raises:
        ValueError: there are no results.
    """
    maps = distinct(name for result in results for name in result.maps)
    styles = line_styles(distinct(result.probe for result in results))
    figure, panels = panels_by_map(maps, height=2.9)
    for name, panel in panels.items():
        for probe, style in styles.items():
            curves = [
                result.losses[:, i]
                for result in results
                for i, task in enumerate(result.tasks)
                if result.probe == probe and task == Task(name)
            ]
            if curves:
                parts = np.array_split(np.mean(curves, axis=0), min(_SPANS, len(curves[0])))
                steps = np.array_split(np.arange(1, len(curves[0]) + 1), len(parts))
                x, y = ([part.mean() for part in values] for values in (steps, parts))
                panel.plot(x, y, linewidth=1.2, **style)
        panel.axhline(position_map(name, results[0].map_size).var(), **_CONSTANT)
    first = panels[maps[0]]
    first.set_yscale("log")
    first.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    first.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    first.yaxis.set_minor_locator(NullLocator())
    first.set_ylabel("mean squared error", fontsize=9)
    figure.supxlabel("training step", fontsize=9)
    constant = ("best constant", Line2D([], [], **_CONSTANT))
    add_legend(figure, [*line_legend(styles), constant])
    return figure


def profiles(rows: Sequence[Profile], metric: Literal["spc", "mae"]) -> Figure:
    """Scores by distance to the nearest border with their 95 % intervals, a panel per map.

    Raises:
        ValueError: there are no profiles.
    """
    styles = line_styles(distinct(row.probe for row in rows))
    figure, panels = panels_by_map(distinct(row.map for row in rows), height=2.9)
    distances = (np.arange(RINGS) + 0.5) / CELLS
    for row in rows:
        mean, low, high = getattr(row, metric)
        panel, style = panels[row.map], styles[row.probe]
        panel.plot(distances, mean, linewidth=1.2, **style)
        panel.fill_between(distances, low, high, color=style["color"], alpha=0.15, linewidth=0)
    first = panels[rows[0].map]
    first.set_xlim(0, 0.5)
    first.xaxis.set_major_locator(MaxNLocator(3))
    first.set_ylabel(metric.upper(), fontsize=9)
    figure.supxlabel("distance to the nearest border, sides of the image", fontsize=9)
    add_legend(figure, line_legend(styles))
    return figure


def errors(rows: Sequence[Profile]) -> Figure:
    """The mean absolute error in cells: a row per probe, a column per map, each with its scale."""
    fields = varying(row.probe for row in rows)
    maps: dict[str, dict[str, np.ndarray]] = {}
    for row in rows:
        maps.setdefault(label(row.probe, fields), {})[row.map] = row.error
    return grid_of_maps(maps)


def grid_of_maps(maps: Mapping[str, Mapping[str, Float[np.ndarray, "_ _"]]]) -> Figure:
    """Maps by the names of their row and column; each column has a colour scale of its own."""
    rows, columns = list(maps), list(next(iter(maps.values())))
    size = (1.6 * len(columns) + 0.8, 1.55 * len(rows) + 0.6)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for j, column in enumerate(columns):
        top = max(float(maps[row][column].max()) for row in rows) or 1.0
        for i, row in enumerate(rows):
            drawn = panels[i, j].imshow(maps[row][column], vmin=0, vmax=top, cmap=COLOUR_MAP)
            panels[i, j].set(xticks=[], yticks=[])
            if j == 0:
                panels[i, j].set_ylabel(row, fontsize=9)
        panels[0, j].set_title(column, fontsize=10)
        bar = figure.colorbar(drawn, ax=panels[:, j], location="bottom", shrink=0.9, pad=0.01)
        bar.ax.tick_params(labelsize=7)
        bar.ax.xaxis.set_major_locator(MaxNLocator(3))
    return figure


def gallery(
    name: str,
    images: UInt8[np.ndarray, "k h w 3"],
    predictions: Mapping[str, UInt8[np.ndarray, "k h2 w2"]],
) -> Figure:
    """What readouts of the position map `name` predict: a row for each of k images.

    Columns: the image, the map, and the predictions by their labels. One colour scale, from 0 to
    1, for all maps.

    Raises:
        ValueError: the map is unknown; an array of predictions has not k maps.
    """
    target = np.rint(position_map(name, images.shape[1:3]) * 255).astype(np.uint8)
    columns = {"image": images, f"{name}: target": [target] * len(images), **predictions}
    rows = [np.hstack([_cell(p) for p in row]) for row in zip(*columns.values(), strict=True)]
    sheet = np.vstack(rows)[:-_GAP, :-_GAP]
    height, width = sheet.shape[:2]
    # About as large as the sheet, with room for headings of two lines and for the scale.
    size = ((width + 70) / DPI, (height + 75) / DPI)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(sheet, extent=(0, width, height, 0))
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    middles = np.arange(len(columns)) * (_CELL + _GAP) + _CELL / 2
    headings = [plain(heading.replace(", ", "\n")) for heading in columns]
    axes.set_xticks(middles, headings, fontsize=8)
    axes.set_yticks([])
    scale = ScalarMappable(Normalize(0, 1), COLOUR_MAP)
    bar = figure.colorbar(scale, ax=axes, ticks=[0, 0.5, 1], aspect=30, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    return figure


def _cell(picture: UInt8[np.ndarray, "h w *rgb"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """A picture at the size of a cell, maps in colour, with the gap to the next cells in white."""
    colours = picture if picture.ndim == 3 else COLOUR_MAP(picture, bytes=True)[..., :3]
    image = Image.fromarray(colours).resize((_CELL, _CELL), Image.Resampling.BILINEAR)
    return np.pad(np.asarray(image), ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
