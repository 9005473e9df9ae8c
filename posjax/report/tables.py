"""Tables: scores, differences between paddings, and the paper's numbers beside ours."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from posjax.probes.controls import SELECTIVITY, SMOOTH, task_map
from posjax.report.formatting import (
    count,
    distinct,
    estimate,
    grouped,
    number,
    short,
    varying,
    words,
)
from posjax.report.page import Element, Heading, Table
from posjax.results import Difference, Interval, ProbeSpec, Profile, Result, Summary, paper

Row = TypeVar("Row", Summary, Difference, Profile)


def scores(summaries: Sequence[Summary]) -> list[Element]:
    """SPC, MAE and skill with their intervals: three tables per set of test images."""
    elements: list[Element] = []
    for test_images, rows in by_test_images(summaries).items():
        elements += [*_introduce(test_images, rows), *score_tables(rows)]
    return elements


def score_tables(rows: Sequence[Summary], decimals: int = 3) -> list[Table]:
    """SPC, MAE and skill with their intervals, on one set of test images."""
    # A smooth map, which is a control, has a best constant of its own.
    plain = [row for row in rows if row.probe.control != SMOOTH]
    constants = distinct(f"{row.map} {number(row.mae_constant, decimals)}" for row in plain)
    mae = f"MAE (best constant: {', '.join(constants)})"
    return [
        _table("SPC", rows, lambda row: _spc(row, "undefined", decimals)),
        _table(mae, rows, lambda row: _mae(row, decimals)),
        _table("Skill", rows, lambda row: _skill(row, decimals)),
    ]


def differences(rows: Sequence[Difference], kind: str = "padding") -> list[Element]:
    """Paired differences with their intervals: two tables per set of test images and reference.

    `kind` is what differs: "padding", or "set of weights".
    """
    if not rows:
        return [f"There is one {kind} only, or none shares a seed with another."]
    references = distinct(row.reference for row in rows)
    text = (
        f"Scores of each {kind} less those of {' or '.join(references)}, on the same"
        f" {'seeds and ' if seeded(rows) else ''}images: an SPC difference below 0, or an MAE"
        f" difference above 0, means less position than under {references[0]}. Intervals as above;"
        " one that spans 0 leaves the sign open. Pairs in which either SPC is undefined are left"
        " out of the SPC difference."
    )
    return [text, *_by_reference(rows)]


def selectivity(rows: Sequence[Difference]) -> list[Element]:
    """Scores less those on control maps: two tables per set of test images and control."""
    text = (
        "Scores of each readout less those of a readout that was trained in the same way to draw a"
        " control map. Shuffled map: the position map's pixels in a random order, which takes a"
        " memory of single places. Smooth map: a random map with the position map's spectrum, which"
        " takes position as well. An SPC difference near 0 means for the shuffled map that the"
        " readout draws any map that it is trained on, and for the smooth map that the features"
        " carry position, but serve this map no better than any other smooth one."
    )
    return [text, *_by_reference(rows)]


def penalties(results: Sequence[Result]) -> list[Element]:
    """The penalties that were chosen and their errors: a row per readout."""
    fields = varying([result.probe for result in results])
    seed_column = ["seed"] if any(result.probe.seeded for result in results) else []
    rows, paths = [], [result.path for result in results if result.path is not None]
    for result, path in zip(results, paths, strict=True):
        for i, (task, seed) in enumerate(zip(result.tasks, result.seeds, strict=True)):
            at_end = path.chosen[i] in (path.penalties.min(), path.penalties.max())
            variance = task_map(task, result.map_size).var()
            errors = (path.held_out[:, i].min(), result.losses[-1, i], variance)
            rows.append(
                [
                    *_values(result.probe, fields),
                    *(str(seed) for _ in seed_column),
                    words(f"{task.map} {task.control}").strip(),
                    f"{path.chosen[i]:g}{' (end of the path)' if at_end else ''}",
                    *(number(float(error), 4) for error in errors),
                ]
            )
    tried = ", ".join(f"{penalty:g}" for penalty in paths[0].penalties)
    text = (
        "The penalty on the squared weights is in units of the mean variance of a feature. Tried:"
        f" {tried}. Chosen: the one with the smallest mean squared error on every fifth training"
        " image, which is held out; then all images are fitted."
    )
    labels = [*map(words, fields), *seed_column, "map"]
    head = ["penalty", "error, held-out images", "error, all training images", "best constant"]
    caption = "Penalties and mean squared errors"
    return [text, Table(caption, [*labels, *head], rows, len(labels))]


def beside_paper(summaries: Sequence[Summary]) -> list[Element]:
    """The paper's numbers and ours; a sentence where it has none of this kind."""
    encoders = distinct(row.probe.encoder for row in summaries)
    if not set(encoders) & set(paper.ENCODERS):
        text = (
            f"The paper has no numbers for {', '.join(encoders)}: it probes VGG-16 and ResNet-152."
        )
        return [text]
    if all(row.probe.solver == "ridge" for row in summaries):
        return [
            "The paper has no numbers for linear readouts in closed form: its readouts have"
            " BatchNorm and a sigmoid, and are trained by SGD."
        ]
    rows = paper.counterparts(summaries)
    if not rows:
        return ["The paper has no numbers for these paddings, readouts and images."]
    unlike = any(row.ours.probe.weights == "random" for row in rows)
    text = (
        "Islam, Jia and Bruce, ICLR 2020. Their readouts were trained on DUT-S, and their"
        " photographs are those of PASCAL-S; ours are named in the table. The weights of their"
        " encoders were trained on ImageNet"
        f"{', while ours are random: like is not compared with like' if unlike else ''}."
    )
    if any(row.ours.map in paper.STRIPES for row in rows):
        text += (
            " Their stripes (HS, VS) range from −1 to 1, ours from 0 to 1, and so their MAE is"
            " twice as large: it is given as printed, and halved to be on our scale."
        )
    text += " How ours were trained, on what and for how long, stands under Settings."
    fields = varying([row.ours.probe for row in rows])
    labels = ["table", *map(words, fields), "map", "images"]
    head = ["SPC: paper", "ours", "MAE: paper, as printed", "paper, on [0, 1]", "ours"]
    encoders = distinct(row.ours.probe.encoder for row in rows)
    caption = f"The paper's numbers and ours, {', '.join(encoders)}"
    lines = [_beside(row, fields) for row in rows]
    return [text, Table(caption, [*labels, *head], lines, len(labels))]


def pivot(
    caption: str,
    head: Sequence[str],
    cells: Iterable[tuple[Sequence[str], str, str]],
    missing: str = "",
) -> Table:
    """A table of (labels, map, text): a row for the labels, under `head`, a column for the map."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for labels, name, text in cells:
        rows.setdefault(tuple(labels), {})[name] = text
    maps = distinct(name for row in rows.values() for name in row)
    lines = [[*labels, *(row.get(name, missing) for name in maps)] for labels, row in rows.items()]
    return Table(caption, [*head, *maps], lines, len(head))


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
    return grouped(rows, lambda row: row.test_images)


def _introduce(test_images: str, rows: Sequence[Summary | Difference]) -> list[Element]:
    return [Heading(f"Test images {test_images}"), f"Means over {sample(rows)}."]


def _by_reference(differences: Sequence[Difference]) -> list[Element]:
    elements: list[Element] = []
    for test_images, group in by_test_images(differences).items():
        elements += _introduce(test_images, group)
        for reference, rows in grouped(group, lambda row: row.reference).items():
            name = f"the {words(reference)}" if reference in SELECTIVITY else reference
            elements.append(_table(f"SPC less that of {name}", rows, lambda r: _spc(r, "left out")))
            if reference != SMOOTH:  # its best constant is another one
                elements.append(_table(f"MAE less that of {name}", rows, _mae))
    return elements


def _table(caption: str, rows: Sequence[Row], cell: Callable[[Row], str]) -> Table:
    fields = varying([row.probe for row in rows])
    cells = ((_values(row.probe, fields), row.map, cell(row)) for row in rows)
    return pivot(caption, [*map(words, fields)], cells)


def _values(probe: ProbeSpec, fields: Sequence[str]) -> list[str]:
    return [str(getattr(probe, field)) for field in fields]


def _spc(row: Summary | Difference, missing: str, decimals: int = 3) -> str:
    text = _estimate(row, row.spc, decimals)
    return f"{text}, {row.spc_undefined} {missing}" if row.spc and row.spc_undefined else text


def _mae(row: Summary | Difference, decimals: int = 3) -> str:
    return _estimate(row, row.mae, decimals)


def _skill(row: Summary, decimals: int) -> str:
    _, low, high = row.mae
    skill = (row.skill, 1 - high / row.mae_constant, 1 - low / row.mae_constant)
    return _estimate(row, skill, decimals)


def _estimate(row: Summary | Difference, value: Interval | None, decimals: int = 3) -> str:
    return estimate(value, row.n_seeds * row.n_images, decimals)


def _beside(row: paper.Counterpart, fields: Sequence[str]) -> list[str]:
    ours, images = row.ours, short(row.ours.test_images)
    return [
        row.table,
        *_values(ours.probe, fields),
        ours.map,
        images if images == row.test_images else f"{images} (paper: {row.test_images})",
        number(row.spc),
        _estimate(ours, ours.spc),
        number(row.mae),
        f"{number(row.rescaled_mae, 4)} (halved)" if ours.map in paper.STRIPES else number(row.mae),
        _estimate(ours, ours.mae),
    ]
