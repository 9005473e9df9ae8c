"""Figures: scores with their intervals, losses, and predicted maps side by side."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from posjax.probes import position_map
from posjax.probes.controls import Task
from posjax.results import ProbeSpec, Result, Summary
from posjax.report.formatting import distinct, label, short, varying

# Okabe & Ito's colours, which colour-blind readers tell apart, without the yellow.
COLOURS = {
    "zeros": "#000000",
    "reflect": "#E69F00",
    "replicate": "#56B4E9",
    "circular": "#009E73",
    "symmetric": "#0072B2",
    "partial": "#D55E00",
    "valid": "#CC79A7",
    "none": "#808080",
}
_CONSTANT = {"color": "0.35", "linewidth": 1, "linestyle": "--"}
_LINES = ("-", ":", "-.", (0, (5, 1)))
COLOUR_MAP = matplotlib.colormaps["viridis"]
DPI = 120
_SPANS = 200  # points of a loss curve
_CELL, _GAP = 112, 6  # pixels: a picture of the gallery, and the space to the next
_GALLERY_DPI = 100
_LARGE = 150_000  # bytes of a PNG file


def bars(summaries: Sequence[Summary], metric: Literal["spc", "mae"]) -> Figure:
    """Mean scores as bars with their 95 % intervals.

    One panel per map, one group of bars per probe, one bar per set of test images. An SPC that is
    undefined on all images is written as such, a bar is hatched where it is on some. Beside MAE
    stands that of the best constant.

    Raises:
        ValueError: there are no summaries.
    """
    maps = distinct(summary.map for summary in summaries)
    probes = distinct(summary.probe for summary in summaries)
    sets = distinct(summary.test_images for summary in summaries)
    # Tints, so that an interval stands out from its bar.
    tints = 0.3 + 0.7 * COLOUR_MAP(np.linspace(0.3, 0.9, len(sets)))[:, :3]
    colours = dict(zip(sets, tints, strict=True))
    thickness = 0.8 / max(1, len(sets))
    figure, panels = panels_by_map(maps, height=1 + len(probes) * max(0.3, 0.15 * len(sets)))
    for summary in summaries:
        offset = (sets.index(summary.test_images) - (len(sets) - 1) / 2) * thickness
        y = probes.index(summary.probe) + offset
        _bar(panels[summary.map], y, thickness, summary, metric, colours[summary.test_images])
    first = panels[maps[0]]
    fields = varying(probes)
    first.set_yticks(range(len(probes)), [_plain(label(probe, fields)) for probe in probes])
    first.set_ylim(len(probes) - 0.45, -0.55)
    for panel in panels.values():
        panel.axvline(0, color="black", linewidth=0.8)
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.grid(visible=False, axis="y")
    legend = [(short(name), Patch(facecolor=colour)) for name, colour in colours.items()]
    if metric == "spc":
        lows = [summary.spc[1] for summary in summaries if summary.spc]
        first.set_xlim(-1.02 if min(lows, default=0) < -0.1 else min(0, *lows, 0) - 0.02, 1.02)
        figure.supxlabel("SPC (higher is better)", fontsize=9)
    else:
        for summary in summaries:
            panels[summary.map].axvline(summary.mae_constant, **_CONSTANT)
        first.set_xlim(left=0)
        first.xaxis.set_major_locator(MaxNLocator(4))
        legend.append(("best constant", Line2D([], [], **_CONSTANT)))
        figure.supxlabel("MAE (lower is better)", fontsize=9)
    add_legend(figure, legend)
    return figure


def _bar(
    panel: Axes, y: float, thickness: float, summary: Summary, metric: str, colour: np.ndarray
) -> None:
    score = getattr(summary, metric)
    if score is None:
        shift = {"xytext": (3, 0), "textcoords": "offset points", "va": "center_baseline"}
        panel.annotate("undef.", (0, y), fontsize=6.5, color="0.3", **shift)
        return
    mean, low, high = score
    hatch = "//////" if metric == "spc" and summary.spc_undefined else None
    panel.barh(y, mean, thickness, color=colour, edgecolor="white", linewidth=0.5, hatch=hatch)
    panel.plot((low, high), (y, y), color="black", linewidth=1.2, solid_capstyle="butt")


def losses(results: Sequence[Result]) -> Figure:
    """Training losses: mean squared errors, means over seeds and over up to 200 spans of steps.

    One panel per map, one line per probe in the colour of its padding. The dashed line is the
    variance of the map: the loss of the best constant.

    Raises:
        ValueError: there are no results.
    """
    maps = distinct(name for result in results for name in result.maps)
    probes = distinct(result.probe for result in results)
    styles = line_styles(probes)
    figure, panels = panels_by_map(maps, height=2.9)
    for name, panel in panels.items():
        for probe in probes:
            curves = [curve for result in results for curve in _curves(result, probe, name)]
            if curves:
                panel.plot(*_spans(np.mean(curves, axis=0)), linewidth=1.2, **styles[probe])
        panel.axhline(position_map(name, results[0].map_size).var(), **_CONSTANT)
    first = panels[maps[0]]
    first.set_yscale("log")
    first.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    first.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    first.yaxis.set_minor_locator(NullLocator())
    first.set_ylabel("mean squared error", fontsize=9)
    figure.supxlabel("training step", fontsize=9)
    fields = varying(probes)
    legend = [(label(probe, fields), Line2D([], [], **styles[probe])) for probe in probes]
    add_legend(figure, [*legend, ("best constant", Line2D([], [], **_CONSTANT))])
    return figure


def line_styles(probes: Sequence[ProbeSpec]) -> dict[ProbeSpec, dict[str, object]]:
    """The colour of each probe's padding, and a kind of line by what else tells it apart."""
    others = varying(probes)[1:]
    modes = {probe: re.split("[+@]", probe.padding)[0] for probe in probes}

    def kind(probe: ProbeSpec) -> str:
        return f"{probe.padding.removeprefix(modes[probe])} {label(probe, others)}"

    kinds = distinct(map(kind, probes))
    lines = {shape: _LINES[i % len(_LINES)] for i, shape in enumerate(kinds)}
    return {
        probe: {"color": COLOURS[modes[probe]], "linestyle": lines[kind(probe)]} for probe in probes
    }


def _curves(result: Result, probe: ProbeSpec, name: str) -> list[Float[np.ndarray, " steps"]]:
    if result.probe != probe:
        return []
    return [result.losses[:, i] for i, task in enumerate(result.tasks) if task == Task(name)]


def _spans(
    curve: Float[np.ndarray, " steps"],
) -> tuple[Float[np.ndarray, " spans"], Float[np.ndarray, " spans"]]:
    steps = np.arange(1, curve.size + 1)
    spans = max(1, min(_SPANS, curve.size))
    return tuple(
        np.array([part.mean() for part in np.array_split(values, spans)])
        for values in (steps, curve)
    )


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
    target = _coloured(np.rint(position_map(name, images.shape[1:3]) * 255).astype(np.uint8))
    columns = [
        images,
        [target] * len(images),
        *([_coloured(one) for one in several] for several in predictions.values()),
    ]
    step = _CELL + _GAP
    sheet = np.full((len(images) * step - _GAP, len(columns) * step - _GAP, 3), 255, np.uint8)
    for x, column in enumerate(columns):
        for y, (picture, _) in enumerate(zip(column, images, strict=True)):
            cell = Image.fromarray(picture).resize((_CELL, _CELL), Image.Resampling.BILINEAR)
            sheet[y * step : y * step + _CELL, x * step : x * step + _CELL] = cell
    headings = ["image", f"{name}: target", *predictions]
    headings = [heading.replace(", ", "\n") for heading in headings]
    figure, axes = _sheet(sheet, top=12 + 14 * max(text.count("\n") + 1 for text in headings))
    axes.set_xticks(
        [x * step + _CELL / 2 for x in range(len(columns))],
        [_plain(heading) for heading in headings],
        fontsize=9,
    )
    axes.set_yticks([])
    return figure


def _coloured(values: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return COLOUR_MAP(values, bytes=True)[..., :3]


def _sheet(pixels: UInt8[np.ndarray, "h w 3"], top: int) -> tuple[Figure, Axes]:
    """A figure that shows the pixels one to one under `top` pixels, and the scale beside them."""
    height, width = pixels.shape[:2]
    side, right = 4, 58
    full = np.array([width + side + right, height + top + side])
    figure = Figure(figsize=full / _GALLERY_DPI, dpi=_GALLERY_DPI)
    box = np.array([side, side, width, height]) / np.tile(full, 2)
    axes = figure.add_axes(box)
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
    axes.spines[:].set_visible(False)
    bar = np.array([side + width + 14, side, 10, min(height, 240)]) / np.tile(full, 2)
    bar[1] = box[1] + box[3] - bar[3]
    scale = ScalarMappable(matplotlib.colors.Normalize(0, 1), COLOUR_MAP)
    figure.colorbar(scale, cax=figure.add_axes(bar), ticks=[0, 0.5, 1]).ax.tick_params(labelsize=8)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, in 256 colours where more would make it large."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    content = _encoded(image)
    return content if len(content) < _LARGE else _encoded(_in_256_colours(image))


def _in_256_colours(image: Image.Image) -> Image.Image:
    # Shades of their own for maps and text: a palette fitted to photographs would band the maps.
    shades = COLOUR_MAP(np.linspace(0, 1, 96), bytes=True)[:, :3]
    greys = np.repeat(np.linspace(0, 255, 16, dtype=np.uint8)[:, None], 3, axis=1)
    own = np.concatenate([shades, greys])
    fitted = image.quantize(256 - len(own), Image.Quantize.FASTOCTREE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*own.ravel().tolist(), *fitted])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def panels_by_map(maps: Sequence[str], height: float) -> tuple[Figure, dict[str, Axes]]:
    """A row of panels with common axes, by map; `height` in inches, for all but the legend."""
    if not maps:
        raise ValueError("there is nothing to draw: no results")
    width = min(4.5, max(2.1, 9.5 / len(maps)))
    figure = Figure(figsize=(1.6 + width * len(maps), height), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(maps), sharex=True, sharey=True, squeeze=False)[0]
    for name, panel in zip(maps, panels, strict=True):
        panel.set_title(name, fontsize=10)
        panel.grid(color="0.9", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, dict(zip(maps, panels, strict=True))


def add_legend(figure: Figure, entries: Sequence[tuple[str, Patch | Line2D]]) -> None:
    """A legend above the panels, in as many rows as it needs."""
    names = [_plain(name) for name, _ in entries]
    widths = [0.65 + 0.07 * len(name) for name in names]  # inches, about
    in_a_row = (
        len(names)
        if sum(widths) < figure.get_figwidth()
        else max(1, int(figure.get_figwidth() / max(widths)))
    )
    rows = -(-len(names) // in_a_row)
    columns = -(-len(names) // rows)
    figure.set_figheight(figure.get_figheight() + 0.2 * rows)
    figure.legend(
        [mark for _, mark in entries],
        names,
        loc="outside upper left",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )


def _plain(text: str) -> str:
    """Text that matplotlib takes for what it is: no formula, and no label to be left out."""
    return f" {text}".replace("$", r"\$") if text.startswith("_") else text.replace("$", r"\$")
