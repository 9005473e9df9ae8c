"""The picture that shows the answer: what readouts draw under each padding, with their scores."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posjax.probes import position_map
from posjax.report.formatting import distinct, estimate, label, varying
from posjax.report.panels import COLOUR_MAP, DPI, Shown, plain
from posjax.results import Result, Summary

COLUMNS = 8
_SIDE = 1.35  # inches, of a map


def drawn_maps(
    results: Sequence[Result], summaries: Sequence[Summary], test_images: str | None = None
) -> Figure:
    """What the first seed's readouts draw on one test image, and their mean SPC under it.

    A row for each map: the target, then the first eight probes. All maps have one colour scale,
    from 0 to 1.

    Args:
        results: results without controls.
        summaries: those of the results.
        test_images: the name of a set of test images, by default the first.

    Raises:
        ValueError: there are no results, or none on `test_images`.
    """
    sets = distinct(name for result in results for name in result.galleries)
    test_images = test_images or next(iter(sets), None)
    if test_images not in sets:
        raise ValueError(f"test_images: {test_images!r} is not there; there are {', '.join(sets)}")
    firsts = {result.probe: result for result in reversed(results)}
    shown = [firsts[probe] for probe in distinct(result.probe for result in results)][:COLUMNS]
    maps = distinct(name for result in shown for name in result.maps)
    scores = {(row.probe, row.map): row for row in summaries if row.test_images == test_images}
    fields = varying(result.probe for result in shown)
    size = (_SIDE * (len(shown) + 1) + 0.3, (_SIDE + 0.2) * len(maps) + 0.3)
    figure = Shown(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(len(maps), len(shown) + 1, squeeze=False)
    for name, row in zip(maps, panels, strict=True):
        target = position_map(name, shown[0].map_size)
        _draw(row[0], np.rint(255 * target), "")
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        for result, panel in zip(shown, row[1:], strict=True):
            drawn = result.galleries[test_images].predictions[distinct(result.maps).index(name), 0]
            _draw(panel, drawn, _score(scores[result.probe, name]))
    headings = ["target", *(label(result.probe, fields).replace(", ", "\n") for result in shown)]
    for panel, heading in zip(panels[0], headings, strict=True):
        panel.set_title(plain(heading), fontsize=9)
    return figure


def _score(row: Summary) -> str:
    return f"SPC {estimate(row.spc, row.n_seeds * row.n_images, 2)}"


def _draw(panel: Axes, values: np.ndarray, score: str) -> None:
    panel.imshow(values, vmin=0, vmax=255, cmap=COLOUR_MAP)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    panel.set_xlabel(score, fontsize=7)
