"""Records: the rows of results.csv, one for each readout and set of test images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from posjax.results.result import Result, readouts
from posjax.results.summaries import summarise_seeds
from posjax.runtime import write_rows


@dataclasses.dataclass(frozen=True)
class Record:
    """One row of results.csv: one readout on one set of test images.

    `spc` and its interval are None where every prediction is constant; `spc_undefined` counts the
    images where it is. `low` and `high` are bootstrap 95 % intervals over images. `control` is
    that of `ProbeSpec`.
    """

    encoder: str
    weights: str
    padding: str
    stages: str
    map: str
    depth: int
    kernel_size: int
    readout_padding: int
    solver: str
    seed: int | None
    test_images: str
    n_images: int
    spc: float | None
    spc_low: float | None
    spc_high: float | None
    spc_undefined: int
    mae: float
    mae_low: float
    mae_high: float
    mae_constant: float
    skill: float
    control: str


_COLUMNS = tuple(field.name for field in dataclasses.fields(Record))


def to_records(result: Result) -> list[Record]:
    """The rows of a result, by test images, then readout."""
    records = []
    for readout in readouts([result]):
        row = summarise_seeds([readout])
        values = vars(row) | vars(row.probe) | {"seed": readout.seed, "skill": row.skill}
        for score in ("spc", "mae"):
            names = (score, f"{score}_low", f"{score}_high")
            values |= dict(zip(names, values[score] or (None, None, None), strict=True))
        records.append(Record(**{name: values[name] for name in _COLUMNS}))
    return records


def write_records(folder: Path, records: Sequence[Record]) -> None:
    """Writes results.csv, and the controls, if there are any, to controls.csv."""
    write_csv(folder / "results.csv", [record for record in records if not record.control])
    if controls := [record for record in records if record.control]:
        write_csv(folder / "controls.csv", controls)


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Writes records whole or not at all; six significant digits, undefined values empty.

    The column `control` is there where any of them is one.
    """
    controls = any(record.control for record in records)
    names = [name for name in _COLUMNS if controls or name != "control"]
    cells = ([getattr(record, name) for name in names] for record in records)
    rows = ([f"{c:.6g}" if isinstance(c, float) else c for c in row] for row in cells)
    write_rows(path, names, rows)
