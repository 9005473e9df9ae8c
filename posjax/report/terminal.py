"""The scores of a run as plain text, for the terminal."""

from collections.abc import Callable, Mapping, Sequence

from posjax.report.formatting import aligned, batches, distinct, estimate, label, number, varying
from posjax.report.tables import by_test_images, results_first, sample, seeded
from posjax.results import ProbeSpec, Result, Summary, summarise

_COLUMNS = 112  # of characters


def text_table(results: Sequence[Result]) -> str:
    """The mean scores with their 95 % intervals as plain text, two tables per set of test images.

    Rows are probes, columns are maps; the MAE of controls is left to the report. Further maps
    follow in rows of their own where a line would pass 112 columns. Ends without a newline.
    """
    if not results:
        return "no results"
    summaries = results_first(summarise(results))
    labels = {
        row.probe: label(row.probe, varying([s.probe for s in summaries])) for row in summaries
    }
    lines = []
    for test_images, rows in by_test_images(summaries).items():
        measured = [row for row in rows if not row.probe.control]
        constants = {row.map: number(row.mae_constant, 2) for row in measured}
        lines += [f"Test images {test_images}: {sample(rows)}", ""]
        lines += _block("SPC", rows, _spc, labels)
        lines += _block("MAE", measured, _mae, labels, constants)
    with_seeds = seeded(summaries)
    means, over = ("seeds and images", "both") if with_seeds else ("images", "them")
    lines.append(f"Means over {means}; [low, high]: 95 % bootstrap interval over {over}.")
    if any(row.spc_undefined for row in summaries):
        lines.append(
            "(u): SPC undefined on u of all predictions, which were constant, and left out."
        )
    return "\n".join(lines)


def _block(
    score: str,
    rows: Sequence[Summary],
    cell: Callable[[Summary], str],
    labels: Mapping[ProbeSpec, str],
    constants: Mapping[str, str] | None = None,
) -> list[str]:
    maps = distinct(row.map for row in rows)
    cells: dict[ProbeSpec | str, dict[str, str]] = {}
    for row in rows:
        if row.probe.control:
            cells.setdefault("controls:", {})
        cells.setdefault(row.probe, {})[row.map] = cell(row)
    if constants:
        cells["best constant"] = dict(constants)
    names = {key: key if isinstance(key, str) else labels[key] for key in cells}
    left = max(map(len, ("best constant", *names.values())))
    width = max((len(text) for line in cells.values() for text in line.values()), default=0)
    lines = []
    for shown in batches(maps, max(1, (_COLUMNS - left) // (2 + width))):
        table = [[names[key], *(line.get(m, "") for m in shown)] for key, line in cells.items()]
        lines += [*aligned([[score, *shown], *table]), ""]
    return lines


def _spc(row: Summary) -> str:
    text = estimate(row.spc, row.n_seeds * row.n_images, 2)
    return f"{text} ({row.spc_undefined})" if row.spc and row.spc_undefined else text


def _mae(row: Summary) -> str:
    return estimate(row.mae, row.n_seeds * row.n_images, 2)
