"""What a run found: report.html with its figures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from posjax.probes.controls import IMAGE_SHUFFLED, SELECTIVITY
from posjax.report import figures, glossary, layers, map_figures, page, tables
from posjax.report.formatting import batches, distinct, label, varying
from posjax.results import (
    Difference,
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
from posjax.runtime import write_atomically

GALLERY_COLUMNS = 7
GALLERY_PROBES = 21  # more of them would only make the page heavy


def write_report(
    workdir: Path,
    facts: Mapping[str, str],
    results: Sequence[Result],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> Path:
    """Writes `workdir`/report.html and the figures that it shows to `workdir`/figures.

    The page needs no other file. Every file is written whole or not at all, over one of the same
    name.

    Args:
        workdir: an existing folder.
        facts: the settings that bear on the results, by name.
        results: what is there so far; may be empty.
        title: the page's, in plain text, as all texts.
        notes: what a reader should know before the numbers; shown as a list at the top.

    Returns:
        The path of the page.

    Raises:
        OSError: a file cannot be written.
    """
    sections = {"Settings": page.facts(facts)}
    if results:
        sections |= _sections(workdir, results)
    else:
        notes = (*notes, "There are no results yet.")
    path = workdir / "report.html"
    opening = glossary.opening(notes, results)
    write_atomically(path, page.document(title, opening, sections).encode())
    return path


def _sections(workdir: Path, results: Sequence[Result]) -> dict[str, str]:
    summaries = tables.results_first(summarise(results))
    effects = layer_effects(results)
    # Many single layers have a section of their own, and would fill up the figures.
    single_layers = {effect.source.probe for effect in effects if effect.layer}
    measured = [r for r in results if not r.probe.control and r.probe not in single_layers]
    probes = {result.probe for result in measured}
    between = [row for row in _between_paddings(results) if row.probe not in single_layers]
    weights, selective = between_weights(measured), selectivities(results)
    where = profiles(measured)
    closed_form = any(result.path for result in results)
    sections = {
        "Scores": _bars(workdir, [s for s in summaries if s.probe in probes]),
        "Tables": tables.scores(summaries),
        "Differences between paddings": tables.differences(between),
        "Differences between weights": weights and tables.differences(weights, "set of weights"),
        "Layer by layer": effects and _layers(workdir, effects),
        "Selectivity": selective and tables.selectivity(selective),
        "Where in the image": where and _where(workdir, where),
        "Predicted maps": _galleries(workdir, measured),
        "Penalties": closed_form and tables.penalties(results),
        "Training": not closed_form and _losses(workdir, measured),
        "Beside the paper": tables.beside_paper(summaries),
    }
    return {heading: content for heading, content in sections.items() if content}


def _between_paddings(results: Sequence[Result]) -> list[Difference]:
    # Control maps are there for selectivity: no padding is expected to draw them better.
    left_out = (*SELECTIVITY, IMAGE_SHUFFLED)
    return [row for row in paired_differences(results) if row.probe.control not in left_out]


def _bars(workdir: Path, summaries: Sequence[Summary]) -> str:
    spc = _picture(
        workdir,
        "spc",
        figures.bars(summaries, "spc"),
        "Mean SPC; lines are 95 % intervals. undef.: no prediction has an SPC; hatched: some have"
        " none, and the mean is that of the others.",
    )
    mae = _picture(
        workdir,
        "mae",
        figures.bars(summaries, "mae"),
        "Mean MAE; lines are 95 % intervals, dashed the MAE of the best constant.",
    )
    return spc + mae


def _galleries(workdir: Path, results: Sequence[Result]) -> str:
    firsts: dict[ProbeSpec, Result] = {}
    for result in results:
        firsts.setdefault(result.probe, result)
    shown = list(firsts.values())[:GALLERY_PROBES]
    fields = varying([*firsts])
    of_seed = " of the first seed" if any(probe.seeded for probe in firsts) else ""
    text = f"The first test images, and what the readout{of_seed} draws on each of them."
    if len(firsts) > len(shown):
        text += f" The first {len(shown)} of {len(firsts)} probes."
    parts = [page.paragraph(text)]
    sets = distinct(name for result in shown for name in result.galleries)
    maps = distinct(name for result in shown for name in result.maps)
    for i, test_images in enumerate(sets, 1):
        parts.append(page.heading(f"Test images {test_images}"))
        for name in maps:
            having = [r for r in shown if name in r.maps and test_images in r.galleries]
            for j, several in enumerate(batches(having, GALLERY_COLUMNS), 1):
                predictions = {
                    label(r.probe, fields): r.galleries[test_images].predictions[
                        distinct(r.maps).index(name)
                    ]
                    for r in several
                }
                images = several[0].galleries[test_images].images
                stem = "-".join(("gallery", str(i), _slug(test_images), name, str(j)))
                drawn = figures.gallery(name, images, predictions)
                parts.append(_picture(workdir, stem, drawn, f"{name} on {test_images}."))
    return "\n".join(parts)


def _where(workdir: Path, rows: Sequence[Profile]) -> str:
    parts = []
    for i, (test_images, several) in enumerate(tables.by_test_images(rows).items(), 1):
        parts.append(page.heading(f"Test images {test_images}"))
        for metric, what in (("spc", "SPC"), ("mae", "MAE")):
            caption = (
                f"{what} over the pixels at each distance to the nearest border, in 14 rings;"
                " bands are 95 % intervals. Rings on which the prediction or the map is constant"
                " have no SPC."
            )
            stem = f"profile-{metric}-{i}-{_slug(test_images)}"
            parts.append(_picture(workdir, stem, map_figures.profiles(several, metric), caption))
        caption = (
            "Mean absolute error over seeds and images at every place: the content loss of the"
            " paper's equation 4 and Figure 7. Each map has a scale of its own."
        )
        stem = f"errors-{i}-{_slug(test_images)}"
        parts.append(_picture(workdir, stem, map_figures.errors(several), caption))
    return "\n".join(parts)


def _layers(workdir: Path, rows: Sequence[LayerEffect]) -> str:
    parts = []
    for i, ((probe, mode, other, test_images), several) in enumerate(
        layers.by_figure(rows).items(), 1
    ):
        stem = f"layers-{i}-{probe.encoder}-{mode}-{other}-{_slug(test_images)}"
        caption = (
            f"{probe.encoder} on {test_images}: SPC that padding a layer by {mode} adds to padding"
            f" it by {other}; lines are 95 % intervals, the band is that of all layers at once."
        )
        parts.append(_picture(workdir, stem, layers.figure(several), caption))
    return layers.table(rows) + "\n".join(parts)


def _losses(workdir: Path, results: Sequence[Result]) -> str:
    return _picture(
        workdir,
        "losses",
        figures.losses(results),
        "Training losses, means over seeds and over up to 200 spans of steps; dashed: the loss of"
        " the best constant, the variance of the map.",
    )


def _picture(workdir: Path, stem: str, figure: figures.Figure, caption: str) -> str:
    content = figures.png(figure)
    path = workdir / "figures" / f"{stem}.png"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, content)
    return page.picture(content, caption)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[-40:].strip("-")
