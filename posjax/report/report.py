"""The report of a run: its sections with their tables and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from posjax.probes.controls import IMAGE_SHUFFLED, SELECTIVITY
from posjax.report import figures, layers, tables
from posjax.report.answer import answer
from posjax.report.drawn import drawn_maps
from posjax.report.formatting import batches, distinct, grouped, label, varying
from posjax.report.page import Element, Glossary, Heading, Page, Picture, as_html, facts
from posjax.report.panels import slug
from posjax.results import (
    Profile,
    Result,
    between_weights,
    layer_effects,
    paired_differences,
    profiles,
    selectivities,
    summarise,
)

GALLERY_COLUMNS = 7
GALLERY_PROBES = 21  # more of them would only make the page heavy

_CAPTIONS = {
    "drawn": "What {} draw of each map on one test image, the target first. Below each, the mean"
    " SPC over all {}test images.",
    "spc": "Mean SPC; lines are 95 % intervals, grey marks controls. undef.: no prediction has an"
    " SPC; hatched: some have none, and the mean is that of the others.",
    "mae": "Mean MAE; lines are 95 % intervals, dashed the MAE of the best constant.",
    "profile": " over the pixels at each distance to the nearest border, in 14 rings; bands are"
    " 95 % intervals. Rings on which the prediction or the map is constant have no SPC.",
    "errors": "Mean absolute error at every place: the content loss of the paper's equation 4 and"
    " Figure 7. Each map has a scale of its own.",
    "losses": "Training losses, means over seeds and over up to 200 spans of steps; dashed: the"
    " loss of the best constant, the variance of the map.",
}


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
    closed_form = any(result.probe.solver == "ridge" for result in results)
    seeded = not closed_form or any(result.probe.seeded for result in results)
    lead, sections = _lead_and_sections(results) if results else ([], {})
    sections |= {
        "Settings": [facts(settings)],
        "How to read it": [Glossary(closed_form, seeded)],
    }
    files = [name for name in ("results.csv", "controls.csv") if (workdir / name).exists()]
    return Page(title, sections, lead, notes, files).write(workdir)


def html_tables(results: Sequence[Result]) -> str:
    """The scores of `results` as tables in HTML, for a notebook; controls come last."""
    return as_html(tables.scores(tables.results_first(summarise(results))))


def _lead_and_sections(
    results: Sequence[Result],
) -> tuple[list[Element], dict[str, list[Element]]]:
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
    shown = [row for row in summaries if row.probe in probes]
    controls = [row for row in summaries if row.probe.control]
    seeded = any(row.probe.seeded for row in shown)
    drawn = ("the first seed's readouts", "seeds and ") if seeded else ("readouts", "")
    lead: list[Element] = [
        *answer([*shown, *controls]),
        Picture("drawn", drawn_maps(measured, shown), _CAPTIONS["drawn"].format(*drawn)),
        Picture("spc", figures.bars(shown, "spc", controls), _CAPTIONS["spc"]),
    ]
    mae = Picture("mae", figures.bars(shown, "mae"), _CAPTIONS["mae"])
    sections = {
        "Tables": [*tables.scores([row for row in summaries if not row.probe.control]), mae],
        "Controls": tables.scores(controls),
        "Differences between paddings": tables.differences(between),
        "Differences between weights": weights and tables.differences(weights, "set of weights"),
        "Layer by layer": effects and layers.section(effects),
        "Selectivity": selective and tables.selectivity(selective),
        "Where in the image": _profiles(profiles(measured)),
        "Predicted maps": _galleries(measured),
        "Penalties": tables.penalties(results) if closed_form else [],
        "Training": [] if closed_form else _losses(measured),
        "Beside the paper": tables.beside_paper(summaries),
    }
    return lead, {heading: elements for heading, elements in sections.items() if elements}


def _losses(results: Sequence[Result]) -> list[Element]:
    return [Picture("losses", figures.losses(results), _CAPTIONS["losses"])]


def _profiles(rows: Sequence[Profile]) -> list[Element]:
    elements: list[Element] = []
    for i, (test_images, group) in enumerate(tables.by_test_images(rows).items(), 1):
        place = f"{i}-{slug(test_images)}"
        spc, mae = (figures.profiles(group, metric) for metric in ("spc", "mae"))
        elements += [
            Heading(f"Test images {test_images}"),
            Picture(f"profile-spc-{place}", spc, "SPC" + _CAPTIONS["profile"]),
            Picture(f"profile-mae-{place}", mae, "MAE" + _CAPTIONS["profile"]),
            Picture(f"errors-{place}", figures.errors(group), _CAPTIONS["errors"]),
        ]
    return elements


def _galleries(results: Sequence[Result]) -> list[Element]:
    firsts = [group[0] for group in grouped(results, lambda result: result.probe).values()]
    shown = firsts[:GALLERY_PROBES]
    fields = varying(result.probe for result in firsts)
    of_seed = " of the first seed" if any(result.probe.seeded for result in firsts) else ""
    text = f"The first test images, and what the readout{of_seed} draws on each of them."
    if len(firsts) > len(shown):
        text += f" The first {len(shown)} of {len(firsts)} probes."
    elements: list[Element] = [text]
    for i, test_images in enumerate(distinct(t for r in shown for t in r.galleries), 1):
        elements.append(Heading(f"Test images {test_images}"))
        for name in distinct(name for result in shown for name in result.maps):
            group = [r for r in shown if test_images in r.galleries and name in r.maps]
            for j, row in enumerate(batches(group, GALLERY_COLUMNS), 1):
                images = row[0].galleries[test_images].images
                predictions = {
                    label(result.probe, fields): result.galleries[test_images].predictions[
                        distinct(result.maps).index(name)
                    ]
                    for result in row
                }
                picture = figures.gallery(name, images, predictions)
                stem = f"gallery-{i}-{slug(test_images)}-{name}-{j}"
                elements.append(Picture(stem, picture, f"{name} on {test_images}."))
    return elements
