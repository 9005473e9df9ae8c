"""The benchmark's rows, as JSON has them, and the table that is printed of them."""

import statistics
from collections.abc import Sequence
from typing import Any

CLOCK = 1.5e9  # of a TPU v5e, hertz
PEAK = 197e12  # its bfloat16 multiplications and additions in a second

Row = dict[str, Any]

PAIRS = """\
a then b in every turn; median [least, most] of the turns"""
PROGRAMS = """\
what the TPU's compiler expects of each program on one device of a v5e; of peak: its products' part
of 197e12 in bfloat16"""
COLUMNS = {
    PAIRS: {"": 48, "a": 10, "b": 16, "seconds of a": 27, "seconds of b": 27, "a / b": 0},
    PROGRAMS: {
        **{"": 40, "M cycles": 10, "ms": 9, "of peak": 9, "HBM, GB": 9, "s to compile": 14},
        "over zeros": 0,
    },
}


def pair_row(
    section: str, name: str, sides: Sequence[str], seconds: Sequence[Sequence[float]], **about: Any
) -> Row:
    """One pair: the seconds of both sides in every turn, and what else there is to say."""
    a, b = map(tuple, seconds)
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    return {
        "section": section,
        "name": name,
        "a": sides[0],
        "b": sides[1],
        "a_seconds": a,
        "b_seconds": b,
        **about,
        "a_median": statistics.median(a),
        "b_median": statistics.median(b),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def program_row(name: str, sizes: dict[str, Any], compiled: dict[str, Any]) -> Row:
    """A program as `tpu_side` compiles it, for one of its devices, of a TPU v5e."""
    memory, seconds = compiled["memory"], compiled["cycles"] / CLOCK
    # Results in the place of arguments count once.
    used = sum(memory[kind] for kind in ("argument", "output", "temp")) - memory["alias"]
    return {
        "section": "tpu",
        "name": name,
        "devices": sizes.get("devices", 1),
        "sizes": sizes,
        **compiled,
        "milliseconds": 1e3 * seconds,
        "part_of_peak": compiled["flops"] / seconds / PEAK,
        "hbm_bytes": used,
    }


def title(row: Row) -> str:
    """The title of the table that a row belongs to."""
    return PROGRAMS if row["section"] == "tpu" else PAIRS


def head_text(table: str) -> str:
    """The title and the head of a table."""
    return f"\n{table}\n\n{_in_columns(COLUMNS[table], table)}"


def row_text(row: Row) -> str:
    """A row in columns, with remarks below it."""
    table = title(row)
    cells, remarks = _pair(row) if table == PAIRS else _program(row)
    return "\n    ".join([_in_columns(cells, table), *remarks])


def _in_columns(cells: Sequence[str], table: str) -> str:
    widths = COLUMNS[table].values()
    return " ".join(f"{c:<{width}}" for c, width in zip(cells, widths, strict=True)).rstrip()


def _pair(row: Row) -> tuple[list[str], list[str]]:
    a, b = row["a_seconds"], row["b_seconds"]
    spreads = (_spread(values) for values in (a, b, [x / y for x, y in zip(a, b, strict=True)]))
    return [row["name"], row["a"], row["b"], *spreads], [*filter(None, [row.get("remark")])]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} [{min(values):.4g}, {max(values):.4g}]"


def _program(row: Row) -> tuple[list[str], list[str]]:
    cells = [
        row["name"],
        f"{row['cycles'] / 1e6:.2f}",
        f"{row['milliseconds']:.2f}",
        f"{row['part_of_peak']:.3f}",
        f"{row['hbm_bytes'] / 1e9:.2f}",
        f"{row['compile_seconds']:.1f}",
        f"{row['ratio']:.2f}" if row.get("ratio") else "",
    ]
    remarks = []
    if row["missing"]:
        missing = ", ".join(f"{count} x {name}" for name, count in row["missing"].items())
        remarks.append(f"without an estimate, and not counted: {missing}")
    if row["endless"]:
        remarks.append(f"loops of unknown length, counted once: {row['endless']}")
    return cells, remarks
