"""What figures share: colours, panels for each map, legends, and PNG files."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TypedDict

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType
from PIL import Image

from posjax.report.formatting import label, varying
from posjax.results import ProbeSpec
from posjax.runtime import encodable

# Colours that colour-blind readers tell apart: Okabe & Ito's, without the yellow, and two of
# Tol's muted ones.
COLOURS = {
    "zeros": "#000000",
    "reflect": "#E69F00",
    "replicate": "#56B4E9",
    "circular": "#009E73",
    "symmetric": "#0072B2",
    "mean": "#882255",
    "extrapolate": "#332288",
    "partial": "#D55E00",
    "valid": "#CC79A7",
    "none": "#808080",
}
COLOUR_MAP = matplotlib.colormaps["viridis"]
DPI = 120
_LINES: tuple[LineStyleType, ...] = ("-", ":", "-.", (0, (5, 1)))
_LARGE = 150_000  # bytes of a PNG file


class Style(TypedDict):
    """How a line is drawn."""

    color: str
    linestyle: LineStyleType


class Shown(Figure):
    """A figure that a notebook shows, whichever backend of matplotlib it has."""

    def _repr_png_(self) -> bytes:
        return png(self)


def panels_by_map(maps: Sequence[str], height: float) -> tuple[Figure, dict[str, Axes]]:
    """A row of panels with common axes, by map; `height` in inches, for all but the legend.

    Raises:
        ValueError: there are no maps.
    """
    if not maps:
        raise ValueError("there is nothing to draw: no results")
    width = min(4.5, max(2.1, 9.5 / len(maps)))
    figure = Shown(figsize=(1.6 + width * len(maps), height), dpi=DPI, layout="constrained")
    row = figure.subplots(1, len(maps), sharex=True, sharey=True, squeeze=False)[0]
    panels = dict(zip(maps, row, strict=True))
    for name, panel in panels.items():
        panel.set_title(name, fontsize=10)
        panel.grid(color="0.9", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, panels


def line_styles(probes: Sequence[ProbeSpec]) -> dict[ProbeSpec, Style]:
    """The colour of each probe's padding mode, and a line style for each other difference."""
    others = varying(probes)[1:]
    lines: dict[str, LineStyleType] = {}
    styles = {}
    for probe in probes:
        mode = re.split("[+@]", probe.padding)[0]
        rest = f"{probe.padding.removeprefix(mode)} {label(probe, others)}"
        line = lines.setdefault(rest, _LINES[len(lines) % len(_LINES)])
        styles[probe] = Style(color=COLOURS[mode], linestyle=line)
    return styles


def line_legend(styles: Mapping[ProbeSpec, Style]) -> list[tuple[str, Artist]]:
    """The entries of a legend for lines that are drawn in these styles."""
    fields = varying(styles)
    return [(label(probe, fields), Line2D([], [], **style)) for probe, style in styles.items()]


def add_legend(figure: Figure, entries: Sequence[tuple[str, Artist]]) -> None:
    """A legend above the panels, in as many rows as it needs."""
    names = [plain(name) for name, _ in entries]
    widest = 0.65 + 0.07 * max(map(len, names))  # inches, about
    columns = min(len(names), max(1, int(figure.get_figwidth() / widest)))
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(names) // columns))
    style = {"loc": "outside upper left", "fontsize": 8, "frameon": False}
    figure.legend([mark for _, mark in entries], names, ncols=columns, **style)


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: not as a formula, and not hidden by a leading `_`."""
    text = encodable(text)
    return f" {text}".replace("$", r"\$") if text.startswith("_") else text.replace("$", r"\$")


def slug(name: str) -> str:
    """The end of a name, for the name of a file."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[-40:].strip("-")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, in 256 colours where more would make it large."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Its layout takes longest, and is the same each time that the figure is drawn.
    figure.set_layout_engine("none")
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    content = _encode(image)
    return content if len(content) < _LARGE else _encode(_in_256_colours(image))


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file, the same bytes each time."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "posjax"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _in_256_colours(image: Image.Image) -> Image.Image:
    # Maps and text get fixed shades: a palette fitted to photographs would band the maps.
    shades = COLOUR_MAP(np.linspace(0, 1, 96), bytes=True)[:, :3]
    greys = np.repeat(np.linspace(0, 255, 16, dtype=np.uint8)[:, None], 3, axis=1)
    fixed = np.concatenate([shades, greys])
    fitted = image.quantize(256 - len(fixed), Image.Quantize.FASTOCTREE).getpalette()
    assert fitted is not None  # `quantize` makes a palette
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed.ravel().tolist(), *fitted])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
