"""Figures of what differs from place to place: profiles towards the border, and maps."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from posjax.probes.profiles import CELLS, RINGS
from posjax.report.figures import COLOUR_MAP, DPI, add_legend, line_styles, panels_by_map
from posjax.results import Profile
from posjax.report.formatting import distinct, label, varying


def profiles(rows: Sequence[Profile], metric: Literal["spc", "mae"]) -> Figure:
    """Scores by distance to the nearest border with their 95 % intervals, a panel per map.

    Raises:
        ValueError: there are no profiles.
    """
    maps = distinct(row.map for row in rows)
    probes = distinct(row.probe for row in rows)
    styles, fields = line_styles(probes), varying(probes)
    figure, panels = panels_by_map(maps, height=2.9)
    distances = (np.arange(RINGS) + 0.5) / CELLS
    for row in rows:
        mean, low, high = getattr(row, metric)
        style = styles[row.probe]
        panels[row.map].plot(distances, mean, linewidth=1.2, **style)
        shade = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
        panels[row.map].fill_between(distances, low, high, **shade)
    first = panels[maps[0]]
    first.set_xlim(0, 0.5)
    first.xaxis.set_major_locator(MaxNLocator(3))
    first.set_ylabel(metric.upper(), fontsize=9)
    figure.supxlabel("distance to the nearest border, sides of the image", fontsize=9)
    add_legend(figure, [(label(p, fields), Line2D([], [], **styles[p])) for p in probes])
    return figure


def errors(rows: Sequence[Profile]) -> Figure:
    """The mean absolute error in cells: a row per probe, a column per map, each with its scale."""
    probes = distinct(row.probe for row in rows)
    fields = varying(probes)
    return grid_of_maps(
        {
            label(probe, fields): {row.map: row.error for row in rows if row.probe == probe}
            for probe in probes
        }
    )


def grid_of_maps(maps: Mapping[str, Mapping[str, Float[np.ndarray, "_ _"]]]) -> Figure:
    """Maps by row and column of what they are called; each column has a colour scale of its own."""
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
