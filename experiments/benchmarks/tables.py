"""The benchmark's rows, as JSON has them, and the tables that are printed of them."""

import statistics
from collections.abc import Sequence
from typing import Any

CLOCK = 1.5e9  # of a TPU v5e, hertz
PEAK = 197e12  # its bfloat16 multiplications and additions in a second
PAIRS = "a then b in every turn; median [least, most] of the turns"
PROGRAMS = (
    "what the TPU's compiler expects of each program on one device of a v5e; of peak: its "
    "products' part of 197e12 in bfloat16"
)

Row = dict[str, Any]


def pair_row(
    section: str, name: str, sides: Sequence[str], seconds: Sequence[Sequence[float]], **about: Any
) -> Row:
    """One pair: the seconds of both sides in every turn, and what else there is to say."""
    a, b = seconds
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    medians = {"a_median": statistics.median(a), "b_median": statistics.median(b)}
    spread = {"ratio": statistics.median(ratios), "ratio_min": min(ratios)}
    spread["ratio_max"] = max(ratios)
    pair = {"a": sides[0], "b": sides[1], "a_seconds": a, "b_seconds": b}
    return {"section": section, "name": name, **pair, **about, **medians, **spread}


def program_row(name: str, sizes: dict[str, Any], compiled: dict[str, Any]) -> Row:
    """A program as `tpu` compiles it, for one of its devices, of a TPU v5e."""
    memory, seconds = compiled["memory"], compiled["cycles"] / CLOCK
    # Results in the place of arguments count once.
    used = memory["argument"] + memory["output"] + memory["temp"] - memory["alias"]
    speed = {"milliseconds": 1e3 * seconds, "part_of_peak": compiled["flops"] / seconds / PEAK}
    which = {"section": "tpu", "name": name, "devices": sizes.get("devices", 1), "sizes": sizes}
    return {**which, **compiled, **speed, "hbm_bytes": used}


def table_of(row: Row) -> str:
    """The title of the table that a row belongs to."""
    return PROGRAMS if row["section"] == "tpu" else PAIRS


def head_text(table: str) -> str:
    """The title and the head of a table."""
    return f"\n{table}\n\n" + _in_columns([(head, width) for head, width, _ in COLUMNS[table]])


def row_text(row: Row) -> str:
    """A row in columns, with remarks below it."""
    line = _in_columns([(cell(row), width) for _, width, cell in COLUMNS[table_of(row)]])
    return "\n    ".join([line, *_remarks(row)])


def _in_columns(cells: Sequence[tuple[str, int]]) -> str:
    return " ".join(f"{text:<{width}}" for text, width in cells).rstrip()


def _spread(median: float, values: Sequence[float]) -> str:
    return f"{median:.4g} [{min(values):.4g}, {max(values):.4g}]"


def _remarks(row: Row) -> list[str]:
    remarks = [row["remark"]] if "remark" in row else []
    if row.get("missing"):
        missing = ", ".join(f"{count} x {name}" for name, count in row["missing"].items())
        remarks.append(f"without an estimate, and not counted: {missing}")
    if row.get("endless"):
        remarks.append(f"loops of unknown length, counted once: {row['endless']}")
    return remarks


# Of every column the head, the width, and the cell of a row.
COLUMNS = {
    PAIRS: (
        ("", 48, lambda row: row["name"]),
        ("a", 10, lambda row: row["a"]),
        ("b", 16, lambda row: row["b"]),
        ("seconds of a", 27, lambda row: _spread(row["a_median"], row["a_seconds"])),
        ("seconds of b", 27, lambda row: _spread(row["b_median"], row["b_seconds"])),
        ("a / b", 0, lambda row: _spread(row["ratio"], (row["ratio_min"], row["ratio_max"]))),
    ),
    PROGRAMS: (
        ("", 40, lambda row: row["name"]),
        ("M cycles", 10, lambda row: f"{row['cycles'] / 1e6:.2f}"),
        ("ms", 9, lambda row: f"{row['milliseconds']:.2f}"),
        ("of peak", 9, lambda row: f"{row['part_of_peak']:.3f}"),
        ("HBM, GB", 9, lambda row: f"{row['hbm_bytes'] / 1e9:.2f}"),
        ("s to compile", 14, lambda row: f"{row['compile_seconds']:.1f}"),
        ("over zeros", 0, lambda row: "" if row["ratio"] is None else f"{row['ratio']:.2f}"),
    ),
}
