"""The scores of a run as plain text, for the terminal."""

from collections.abc import Sequence

from posjax.report.formatting import batches
from posjax.report.page import Table
from posjax.report.tables import by_test_images, results_first, sample, score_tables, seeded
from posjax.results import Result, summarise

_WIDTH = 112  # characters of a line


def text_table(results: Sequence[Result]) -> str:
    """The mean scores with their 95 % intervals as plain text, two tables per set of test images.

    The MAE of controls is left to the report. Ends without a newline.
    """
    if not results:
        return "no results"
    summaries = results_first(summarise(results))
    parts = []
    for test_images, rows in by_test_images(summaries).items():
        measured = [row for row in rows if not row.probe.control]
        parts += [f"Test images {test_images}: {sample(rows)}", as_text(score_tables(rows, 2)[0])]
        parts += [as_text(score_tables(measured, 2)[1])] if measured else []
    over = "seeds and images" if seeded(summaries) else "images"
    parts.append(f"Means over {over}; [low, high]: 95 % bootstrap interval over the same.")
    return "\n\n".join(parts)


def as_text(table: Table) -> str:
    """A table as plain text; columns that would pass 112 characters follow in rows of their own."""
    lines = [[cell.replace("−", "-") for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    labels = range(table.labels)
    room = _WIDTH - sum(2 + widths[i] for i in labels)
    fit = max(1, room // (2 + max(widths[table.labels :])))
    blocks = [
        "\n".join(
            "  ".join(line[i].ljust(widths[i]) for i in (*labels, *columns)).rstrip()
            for line in lines
        )
        for columns in batches(range(table.labels, len(widths)), fit)
    ]
    return f"{table.caption}\n" + "\n\n".join(blocks)
