"""The report of a run: its sections with their tables and figures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from posjax.probes.controls import IMAGE_SHUFFLED, SELECTIVITY
from posjax.report import figures, glossary, layers, tables
from posjax.report.formatting import batches, distinct, label, varying
from posjax.report.page import Element, Heading, Page, Picture, facts
from posjax.report.panels import png
from posjax.results import (
    LayerEffect,
    ProbeSpec,
    Profile,
    Result,
    Summary,
    between_weights,
    layer_effects,
    paired_differences,
    profiles,
    selectivities,
    summarise,
)

GALLERY_COLUMNS = 7
GALLERY_PROBES = 21  # more of them would only make the page heavy


def write_report(
    workdir: Path,
    settings: Mapping[str, str],
    results: Sequence[Result],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> Path:
    """Writes `workdir`/report.html and the figures that it shows to `workdir`/figures.

    The page needs no other file. `settings` are those that bear on the results, by name; `notes`
    are shown as a list at the top; `results` may be empty. All texts are plain.

    Raises:
        OSError: a file cannot be written.
    """
    if not results:
        notes = (*notes, "There are no results yet.")
    sections = {"Settings": [facts(settings)], **(_sections(results) if results else {})}
    return Page(title, sections, *glossary.introduction(results), notes).write(workdir)


def _sections(results: Sequence[Result]) -> dict[str, list[Element]]:
    summaries = tables.results_first(summarise(results))
    effects = layer_effects(results)
    # Many single layers have a section of their own, and would fill up the figures.
    single_layers = {effect.source.probe for effect in effects if effect.layer}
    measured = [r for r in results if not r.probe.control and r.probe not in single_layers]
    probes = {result.probe for result in measured}
    # Control maps are there for selectivity: no padding is expected to draw them better.
    between = [
        row
        for row in paired_differences(results)
        if row.probe.control not in (*SELECTIVITY, IMAGE_SHUFFLED)
        and row.probe not in single_layers
    ]
    weights, selective = between_weights(measured), selectivities(results)
    closed_form = any(result.path for result in results)
    sections = {
        "Scores": _bars([row for row in summaries if row.probe in probes]),
        "Tables": tables.scores(summaries),
        "Differences between paddings": tables.differences(between),
        "Differences between weights": weights and tables.differences(weights, "set of weights"),
        "Layer by layer": effects and _layers(effects),
        "Selectivity": selective and tables.selectivity(selective),
        "Where in the image": _profiles(profiles(measured)),
        "Predicted maps": _galleries(measured),
        "Penalties": tables.penalties(results) if closed_form else [],
        "Training": [] if closed_form else [_losses(measured)],
        "Beside the paper": tables.beside_paper(summaries),
    }
    return {heading: elements for heading, elements in sections.items() if elements}


def _bars(summaries: Sequence[Summary]) -> list[Element]:
    captions = {
        "spc": "Mean SPC; lines are 95 % intervals. undef.: no prediction has an SPC; hatched: some"
        " have none, and the mean is that of the others.",
        "mae": "Mean MAE; lines are 95 % intervals, dashed the MAE of the best constant.",
    }
    return [
        _picture(metric, figures.bars(summaries, metric), caption)
        for metric, caption in captions.items()
    ]


def _layers(effects: Sequence[LayerEffect]) -> list[Element]:
    elements = layers.tables(effects)
    for i, (key, group) in enumerate(layers.by_figure(effects).items(), 1):
        probe, mode, other, test_images = key
        caption = (
            f"{probe.encoder} on {test_images}: SPC that padding a layer by {mode} adds to padding"
            f" it by {other}; lines are 95 % intervals, the band is that of all layers at once."
        )
        name = f"layers-{i}-{probe.encoder}-{mode}-{other}-{_slug(test_images)}"
        elements.append(_picture(name, layers.figure(group), caption))
    return elements


def _profiles(rows: Sequence[Profile]) -> list[Element]:
    elements: list[Element] = []
    for i, (test_images, group) in enumerate(tables.by_test_images(rows).items(), 1):
        elements.append(Heading(f"Test images {test_images}"))
        place = f"{i}-{_slug(test_images)}"
        for metric in ("spc", "mae"):
            caption = (
                f"{metric.upper()} over the pixels at each distance to the nearest border, in 14"
                " rings; bands are 95 % intervals. Rings on which the prediction or the map is"
                " constant have no SPC."
            )
            drawn = figures.profiles(group, metric)
            elements.append(_picture(f"profile-{metric}-{place}", drawn, caption))
        caption = (
            "Mean absolute error at every place: the content loss of the paper's equation 4 and"
            " Figure 7. Each map has a scale of its own."
        )
        elements.append(_picture(f"errors-{place}", figures.errors(group), caption))
    return elements


def _galleries(results: Sequence[Result]) -> list[Element]:
    firsts: dict[ProbeSpec, Result] = {}
    for result in results:
        firsts.setdefault(result.probe, result)
    shown = list(firsts.values())[:GALLERY_PROBES]
    fields = varying([*firsts])
    of_seed = " of the first seed" if any(probe.seeded for probe in firsts) else ""
    text = f"The first test images, and what the readout{of_seed} draws on each of them."
    if len(firsts) > len(shown):
        text += f" The first {len(shown)} of {len(firsts)} probes."
    elements: list[Element] = [text]
    for i, test_images in enumerate(distinct(t for r in shown for t in r.galleries), 1):
        elements.append(Heading(f"Test images {test_images}"))
        having = [result for result in shown if test_images in result.galleries]
        for name in distinct(name for result in shown for name in result.maps):
            group = [result for result in having if name in result.maps]
            for j, row in enumerate(batches(group, GALLERY_COLUMNS), 1):
                galleries = {label(r.probe, fields): (r, r.galleries[test_images]) for r in row}
                predictions = {
                    key: gallery.predictions[distinct(result.maps).index(name)]
                    for key, (result, gallery) in galleries.items()
                }
                drawn = figures.gallery(name, row[0].galleries[test_images].images, predictions)
                stem = f"gallery-{i}-{_slug(test_images)}-{name}-{j}"
                elements.append(_picture(stem, drawn, f"{name} on {test_images}."))
    return elements


def _losses(results: Sequence[Result]) -> Picture:
    caption = (
        "Training losses, means over seeds and over up to 200 spans of steps; dashed: the loss of"
        " the best constant, the variance of the map."
    )
    return _picture("losses", figures.losses(results), caption)


def _picture(name: str, figure: Figure, caption: str) -> Picture:
    return Picture(name, png(figure), caption)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[-40:].strip("-")
