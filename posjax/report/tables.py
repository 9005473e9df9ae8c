"""Tables: scores, differences between paddings, and the paper's numbers beside ours."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from posjax.probes.controls import SMOOTH, task_map
from posjax.report import page
from posjax.results import paper
from posjax.results import Difference, Profile, Result, Summary
from posjax.report.formatting import (
    Interval,
    count,
    distinct,
    estimate,
    listed,
    number,
    short,
    varying,
)

Row = TypeVar("Row", Summary, Difference, Profile)


def scores(summaries: Sequence[Summary]) -> str:
    """SPC, MAE and skill with their intervals, as HTML: three tables per set of test images."""
    parts = []
    for test_images, rows in by_test_images(summaries).items():
        # A smooth map, which is a control, has a best constant of its own.
        plain = [row for row in rows if row.probe.control != SMOOTH]
        constants = listed(distinct(f"{row.map} {number(row.mae_constant)}" for row in plain))
        parts += [
            page.heading(f"Test images {test_images}"),
            page.paragraph(f"Means over {sample(rows)}."),
            _table("SPC", rows, lambda row: _spc(row, "undefined")),
            _table(f"MAE (best constant: {constants})", rows, lambda row: _estimate(row, row.mae)),
            _table("Skill", rows, _skill),
        ]
    return "\n".join(parts)


def differences(rows: Sequence[Difference], of: str = "padding") -> str:
    """Paired differences with their intervals, as HTML: two tables per set of test images.

    `of` is what differs: "padding", or "set of weights".
    """
    if not rows:
        return page.paragraph(f"There is one {of} only, or none shares a seed with another.")
    references = distinct(row.reference for row in rows)
    parts = [
        page.paragraph(
            f"Scores of each {of} less those of {' or '.join(references)}, on the same"
            f" {'seeds and ' if seeded(rows) else ''}images: an"
            " SPC difference below 0, or an MAE difference above 0, means less position than under"
            f" {references[0]}. Intervals as above; one that spans 0 leaves the sign open. Pairs in"
            " which either SPC is undefined are left out of the SPC difference."
        )
    ]
    for test_images, several in by_test_images(rows).items():
        parts += [
            page.heading(f"Test images {test_images}"),
            page.paragraph(f"Means over {sample(several)}."),
        ]
        for reference in references:
            less = [row for row in several if row.reference == reference]
            if less:
                parts += [
                    _table(f"SPC less that of {reference}", less, lambda r: _spc(r, "left out")),
                    _table(f"MAE less that of {reference}", less, lambda r: _estimate(r, r.mae)),
                ]
    return "\n".join(parts)


def selectivity(rows: Sequence[Difference]) -> str:
    """Scores less those on control maps, as HTML: two tables per set of test images and control."""
    parts = [
        page.paragraph(
            "Scores of each readout less those of one that was trained alike, but to draw a map"
            " made of the position map: its pixels in a random order (shuffled map), which takes a"
            " memory for single places, or a random map with its spectrum (smooth map), which takes"
            " position as well. An SPC difference near 0 says of the shuffled map that the readout"
            " draws whatever it is shown, and of the smooth map that the features tell places as"
            " such, and this map no better than any other as smooth."
        )
    ]
    for test_images, several in by_test_images(rows).items():
        parts.append(page.heading(f"Test images {test_images}"))
        parts.append(page.paragraph(f"Means over {sample(several)}."))
        for control in distinct(row.reference for row in several):
            having = [row for row in several if row.reference == control]
            of = f"less that of the {control.replace('_', ' ')}"
            parts.append(_table(f"SPC {of}", having, lambda row: _spc(row, "left out")))
            if control != SMOOTH:  # whose best constant is another one
                parts.append(_table(f"MAE {of}", having, lambda row: _estimate(row, row.mae)))
    return "\n".join(parts)


def penalties(results: Sequence[Result]) -> str:
    """The penalties that were chosen and their errors, as HTML: a row per readout."""
    fields = varying([result.probe for result in results])
    with_seeds = any(seed is not None for result in results for seed in result.seeds)
    head = [
        *(field.replace("_", " ") for field in fields),
        *(["seed"] if with_seeds else []),
        "map",
    ]
    labels = len(head)
    head += ["penalty", "error, held-out images", "error, all training images", "best constant"]
    lines = []
    for result in results:
        path = result.path
        for i, (task, seed) in enumerate(zip(result.tasks, result.seeds, strict=True)):
            ends = (path.penalties.min(), path.penalties.max())
            at_end = " (end of the path)" if path.chosen[i] in ends else ""
            variance = task_map(task, result.map_size).var()
            errors = (path.held_out[:, i].min(), result.losses[-1, i], variance)
            lines.append(
                [
                    *(str(getattr(result.probe, field)) for field in fields),
                    *([str(seed)] if with_seeds else []),
                    f"{task.map} {task.control.replace('_', ' ')}".strip(),
                    f"{path.chosen[i]:g}{at_end}",
                    *(number(float(error), 4) for error in errors),
                ]
            )
    tried = listed(f"{penalty:g}" for penalty in results[0].path.penalties)
    text = (
        "The penalty on the squared weights is in units of the mean variance of a feature. Of"
        f" {tried} it is the one whose fit to the other training images has the smallest mean"
        " squared error on every fifth of them; then all are fitted."
    )
    return page.paragraph(text) + page.table(
        "Penalties and mean squared errors", head, lines, labels
    )


def beside_paper(summaries: Sequence[Summary]) -> str:
    """The paper's numbers and ours, as HTML; a sentence where it has none of this kind."""
    encoders = distinct(row.probe.encoder for row in summaries)
    if not set(encoders) & set(paper.ENCODERS):
        return page.paragraph(
            f"The paper has no numbers for {listed(encoders)}: it probes VGG-16 and ResNet-152."
        )
    if all(row.probe.solver == "ridge" for row in summaries):
        return page.paragraph(
            "The paper has no numbers for linear readouts in closed form: its readouts have"
            " BatchNorm and a sigmoid, and are trained by SGD."
        )
    rows = paper.counterparts(summaries)
    if not rows:
        return page.paragraph("The paper has no numbers for these paddings, readouts and images.")
    text = (
        "Islam, Jia and Bruce, ICLR 2020. Their readouts were trained on DUT-S, and their"
        " photographs are those of PASCAL-S; ours are named in the table. The weights of their"
        " encoders were trained on ImageNet"
    )
    if any(row.ours.probe.weights == "random" for row in rows):
        text += ", while ours are random: like is not compared with like."
    else:
        text += "."
    if any(row.ours.map in paper.STRIPES for row in rows):
        text += (
            " Their stripes (HS, VS) range from −1 to 1, ours from 0 to 1, and so their MAE is"
            " twice as large: it is given as printed, and halved to be on our scale."
        )
    text += " How ours were trained, on what and for how long, stands under Settings."
    fields = varying([row.ours.probe for row in rows])
    head = ["table", *(field.replace("_", " ") for field in fields), "map", "images"]
    labels = len(head)
    head += ["SPC: paper", "ours", "MAE: paper, as printed", "paper, on [0, 1]", "ours"]
    lines = (_beside(row, fields) for row in rows)
    caption = (
        f"The paper's numbers and ours, {listed(distinct(r.ours.probe.encoder for r in rows))}"
    )
    table = page.table(caption, head, lines, labels)
    return page.paragraph(text) + table


def sample(rows: Sequence[Summary | Difference]) -> str:
    """What the rows are means over: `3 seeds and 96 images`; `96 images` where no seed enters."""
    images = count(rows[0].n_images, "image")
    if not seeded(rows):
        return images
    seeds = {row.n_seeds for row in rows}
    fewest = f"{min(seeds)} to " if len(seeds) > 1 else ""
    return f"{fewest}{count(max(seeds), 'seed')} and {images}"


def seeded(rows: Sequence[Summary | Difference]) -> bool:
    """Whether any of the rows is a mean over seeds."""
    return any(row.probe.seeded for row in rows)


def results_first(summaries: Sequence[Summary]) -> list[Summary]:
    """The results in their order, then the controls, kind by kind."""
    kinds = distinct(("", *(summary.probe.control for summary in summaries)))
    return sorted(summaries, key=lambda summary: kinds.index(summary.probe.control))


def by_test_images(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each set of test images."""
    sets = distinct(row.test_images for row in rows)
    return {name: [row for row in rows if row.test_images == name] for name in sets}


def _table(caption: str, rows: Sequence[Row], cell: Callable[[Row], str]) -> str:
    """A table of one number per probe (rows) and position map (columns)."""
    fields = varying([row.probe for row in rows])
    maps = distinct(row.map for row in rows)
    cells = {(row.probe, row.map): cell(row) for row in rows}
    lines = (
        [*(str(getattr(probe, f)) for f in fields), *(cells.get((probe, m), "") for m in maps)]
        for probe in distinct(row.probe for row in rows)
    )
    head = [*(field.replace("_", " ") for field in fields), *maps]
    return page.table(caption, head, lines, labels=len(fields))


def _spc(row: Summary | Difference, missing: str) -> str:
    text = _estimate(row, row.spc)
    return f"{text}, {row.spc_undefined} {missing}" if row.spc and row.spc_undefined else text


def _skill(row: Summary) -> str:
    _, low, high = row.mae
    bounds = (1 - high / row.mae_constant, 1 - low / row.mae_constant)
    return _estimate(row, (row.skill, *bounds))


def _beside(row: paper.Counterpart, fields: Sequence[str]) -> list[str]:
    ours, images = row.ours, short(row.ours.test_images)
    halved = ours.map in paper.STRIPES
    return [
        row.table,
        *(str(getattr(ours.probe, field)) for field in fields),
        ours.map,
        images if images == row.test_images else f"{images} (paper: {row.test_images})",
        number(row.spc).replace("-", "−"),
        _estimate(ours, ours.spc),
        number(row.mae),
        f"{number(row.rescaled_mae, 4)} (halved)" if halved else number(row.mae),
        _estimate(ours, ours.mae),
    ]


def _estimate(row: Summary | Difference, value: Interval | None) -> str:
    return estimate(value, row.n_seeds * row.n_images).replace("-", "−")
