"""What a run found, on the terminal."""

from collections.abc import Mapping, Sequence

from posjax.report import tables
from posjax.results import ProbeSpec, Result, Summary, summarise
from posjax.report.formatting import batches, distinct, estimate, label, number, varying

_TERMINAL = 112  # columns


def text_table(results: Sequence[Result]) -> str:
    """The mean scores with their 95 % intervals as plain text, two tables per set of test images.

    Rows are probes, columns are maps; the MAE of controls is left to the report. Further maps
    follow in rows of their own where a line would pass 112 columns. Ends without a newline.
    """
    if not results:
        return "no results"
    summaries = tables.results_first(summarise(results))
    fields = varying([row.probe for row in summaries])
    lines = []
    for test_images, rows in tables.by_test_images(summaries).items():
        labels = {row.probe: label(row.probe, fields) for row in rows}
        lines += [f"Test images {test_images}: {tables.sample(rows)}", ""]
        lines += _block("SPC", labels, {(r.probe, r.map): _spc(r) for r in rows}, {})
        constants = {r.map: number(r.mae_constant, 2) for r in rows if not r.probe.control}
        results = {probe: text for probe, text in labels.items() if not probe.control}
        cells = {(r.probe, r.map): _mae(r) for r in rows if r.probe in results}
        lines += _block("MAE", results, cells, constants)
    means = "seeds and images" if tables.seeded(summaries) else "images"
    over = "both" if tables.seeded(summaries) else "them"
    lines.append(f"Means over {means}; [low, high]: 95 % bootstrap interval over {over}.")
    if any(row.spc_undefined for row in summaries):
        lines.append(
            "(u): SPC undefined on u of all predictions, which were constant, and left out."
        )
    return "\n".join(lines)


def _block(
    score: str,
    labels: Mapping[ProbeSpec, str],
    cells: Mapping[tuple[ProbeSpec, str], str],
    constants: Mapping[str, str],
) -> list[str]:
    maps = distinct(name for _, name in cells)
    left = max(map(len, ("best constant", *labels.values())))
    width = max(map(len, (score, *cells.values())))
    lines = []
    for shown in batches(maps, max(1, (_TERMINAL - left) // (2 + width))):
        table = [[score, *shown]]
        lines_of = [
            [text, *(cells.get((probe, name), "") for name in shown)]
            for probe, text in labels.items()
        ]
        count_of_results = sum(not probe.control for probe in labels)
        table += lines_of[:count_of_results]
        if constants:
            table.append(["best constant", *(constants.get(name, "") for name in shown)])
        if count_of_results < len(labels):
            table += [["controls:"] + [""] * len(shown), *lines_of[count_of_results:]]
        lines += [*_aligned(table), ""]
    return lines


def _spc(row: Summary) -> str:
    text = estimate(row.spc, row.n_seeds * row.n_images, 2)
    return f"{text} ({row.spc_undefined})" if row.spc and row.spc_undefined else text


def _mae(row: Summary) -> str:
    return estimate(row.mae, row.n_seeds * row.n_images, 2)


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
