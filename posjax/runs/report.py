"""What a run found: report.html with its figures."""

import re
from collections.abc import Sequence
from pathlib import Path

from posjax.probes.controls import IMAGE_SHUFFLED, SELECTIVITY
from posjax.runs import figures, layerwise, map_figures, page, tables
from posjax.runs.differences import (
    Difference,
    between_weights,
    paired_differences,
    selectivities,
)
from posjax.runs.records import Result, Summary, summarise, write_atomically
from posjax.runs.settings import Settings
from posjax.runs.where import Profile, profiles
from posjax.runs.wording import batches, count, distinct, label, listed, varying

GALLERY_COLUMNS = 7
GALLERY_PROBES = 21  # more of them would only make the page heavy

_INTRODUCTION = (
    "A readout is trained to draw a position map, the same one for every image, from the features"
    " of a frozen encoder. On images that it has not seen it succeeds as far as the features say"
    " where they are."
)
_TERMS = {
    "SPC": "Spearman correlation of the predicted and the true map over all pixels of an image,"
    " from −1 to 1: 1 where the order of all values is right, 0 where it is unrelated.",
    "MAE": "Mean absolute error over the pixels of an image; maps range from 0 to 1. It depends on"
    " the map how good a given MAE is: the best constant prediction, the map's median, sets the"
    " mark.",
    "skill": "1 − MAE / MAE of the best constant: 1 is perfect, 0 no better than that constant,"
    " below 0 worse.",
    "[a, b]": "95 % interval of a bootstrap that draws seeds, and images (the same ones for all"
    " seeds), with replacement. From one seed it tells the spread over images alone, from one image"
    " that over seeds alone. Few seeds make it rough, and other training images are not in it.",
    "seed": "Draws the readout's initial weights, and those of an encoder with random weights.",
    "control": "What a result is worth: pixels (readouts on the image itself), random (the encoder"
    " with random weights), roll (images rolled circularly at random, in training and in testing,"
    " so that their content carries no position); and the same readouts with other targets:"
    " shuffled map (the map's pixels in a random order), smooth map (a random map with the map's"
    " spectrum), image shuffled maps (another order for every image: the floor).",
    "undefined": "A constant prediction puts the pixels in no order and has no SPC. Such images are"
    " left out of the mean SPC, and their number is told; their MAE counts.",
}

# Where readouts are fitted in closed form, and where seeds do not enter at all.
_RIDGE = (
    "Readouts are linear, one convolution and a bias, and fitted in closed form: no learning rate"
    " and no initial weights enter. Their predictions may leave [0, 1] and are scored as they are."
)
_RIDGE_TERMS = {"seed": "Draws the weights of the encoder; the readouts need none."}
_SEEDLESS_TERMS = {
    "[a, b]": "95 % interval of a bootstrap that draws images with replacement. Other training"
    " images are not in it."
}


def write_report(
    workdir: Path,
    settings: Settings,
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
        settings: what was asked for; the page tells the parts that bear on the results.
        results: what is there so far; may be empty.
        title: the page's, in plain text, as all texts.
        notes: what a reader should know before the numbers; shown as a list at the top.

    Returns:
        The path of the page.

    Raises:
        OSError: a file cannot be written.
    """
    sections = {"Settings": page.facts(_settings(settings, results))}
    if results:
        summaries = tables.results_first(summarise(results))
        by_layer = layerwise.effects(results)
        # Many single layers have a section of their own, and would fill up the figures.
        alone = {row.row.probe for row in by_layer if row.layer}
        measured = [r for r in results if not r.probe.control and r.probe not in alone]
        probes = {result.probe for result in measured}
        sections["Scores"] = _bars(workdir, [s for s in summaries if s.probe in probes])
        sections["Tables"] = tables.scores(summaries)
        between = [row for row in _between_paddings(results) if row.probe not in alone]
        sections["Differences between paddings"] = tables.differences(between)
        if rows := between_weights(measured):
            sections["Differences between weights"] = tables.differences(rows, "set of weights")
        if by_layer:
            sections["Layer by layer"] = _layers(workdir, by_layer)
        if rows := selectivities(results):
            sections["Selectivity"] = tables.selectivity(rows)
        if rows := profiles(measured):
            sections["Where in the image"] = _where(workdir, rows)
        sections["Predicted maps"] = _galleries(workdir, measured)
        if settings.solver == "ridge":
            sections["Penalties"] = tables.penalties(results)
        else:
            sections["Training"] = _losses(workdir, measured)
        sections["Beside the paper"] = tables.beside_paper(summaries)
    else:
        notes = (*notes, "There are no results yet.")
    opening = page.notes(notes) + page.paragraph(_INTRODUCTION)
    if settings.solver == "ridge":
        opening += page.paragraph(_RIDGE)
    opening += page.definitions(_terms(settings))
    path = workdir / "report.html"
    write_atomically(path, page.document(title, opening, sections).encode())
    return path


def _between_paddings(results: Sequence[Result]) -> list[Difference]:
    # Control maps are there for selectivity: no padding is expected to draw them better.
    left_out = (*SELECTIVITY, IMAGE_SHUFFLED)
    return [row for row in paired_differences(results) if row.probe.control not in left_out]


def _terms(settings: Settings) -> dict[str, str]:
    if settings.solver == "sgd":
        return _TERMS
    if "seeds" not in settings.unused():
        return _TERMS | _RIDGE_TERMS
    return {k: v for k, v in (_TERMS | _SEEDLESS_TERMS).items() if k != "seed"}


def _settings(settings: Settings, results: Sequence[Result]) -> dict[str, str]:
    counts = {name: s.mae.shape[1] for result in results for name, s in result.scores.items()}
    trained = settings.images
    if settings.num_train is not None:
        trained += f" ({count(settings.num_train, 'image')})"
    elif results and settings.solver == "sgd":
        batches = len(results[0].losses) // settings.epochs
        trained += f" ({'1 batch' if batches == 1 else f'{batches:,} batches'} an epoch)"
    tested = (
        f"{name} ({count(counts[name], 'image')})" if name in counts else name
        for name in settings.test_images
    )
    if settings.solver == "ridge":
        training = f"ridge, in closed form; batches of {settings.batch_size}"
    else:
        training = (
            f"{settings.solver}, {count(settings.epochs, 'epoch')}, batches of"
            f" {settings.batch_size}, learning rate {settings.learning_rate:g}"
        )
    values = {
        "encoder": settings.encoder,
        "controls": settings.controls or "none",
        "weights": settings.weights,
        "paddings": settings.paddings,
        "padding of pools": settings.pool_padding or "as the convolutions",
        "arithmetic": settings.dtype,
        "position maps": settings.maps,
        "stages": settings.stages,
        "readout": f"depth {listed(settings.depths)}; kernel size"
        f" {listed(settings.kernel_sizes)}; padding {listed(settings.readout_paddings)}",
        "seeds": "none" if "seeds" in settings.unused() else settings.seeds,
        "training images": trained,
        "test images": tested,
        "image size": f"{settings.image_size} × {settings.image_size} pixels",
        "normalisation": settings.normalize,
        "training": training,
        "features kept as": settings.feature_dtype,
    }
    return {k: v if isinstance(v, str) else listed(v) for k, v in values.items()}


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
    firsts: dict[object, Result] = {}
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


def _layers(workdir: Path, rows: Sequence[layerwise.Effect]) -> str:
    parts = []
    for i, ((probe, mode, other, test_images), several) in enumerate(
        layerwise.by_figure(rows).items(), 1
    ):
        stem = f"layers-{i}-{probe.encoder}-{mode}-{other}-{_slug(test_images)}"
        caption = (
            f"{probe.encoder} on {test_images}: SPC that padding a layer by {mode} adds to padding"
            f" it by {other}; lines are 95 % intervals, the band is that of all layers at once."
        )
        parts.append(_picture(workdir, stem, layerwise.figure(several), caption))
    return layerwise.table(rows) + "\n".join(parts)


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
