"""Results on disk: one file for each probe, and tables of all."""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posjax.probes.controls import Task
from posjax.probes.scores import PenaltyPath, Scores
from posjax.results.records import Gallery, ProbeSpec, Record, Result
from posjax.runtime import write_atomically, write_rows


def save_result(path: Path, result: Result) -> None:
    """Writes a result to an .npz file, whole or not at all."""
    arrays = {"losses": result.losses}
    if result.path is not None:
        arrays |= {f"path.{k}": v for k, v in vars(result.path).items()}
    for i, (scores, gallery) in enumerate(
        zip(result.scores.values(), result.galleries.values(), strict=True)
    ):
        arrays |= {f"{i}.{k}": v for k, v in vars(scores).items() if v is not None}
        arrays |= {f"{i}.{k}": v for k, v in vars(gallery).items()}
    about = {
        "probe": dataclasses.asdict(result.probe),
        "tasks": [dataclasses.astuple(task) for task in result.tasks],
        "seeds": result.seeds,
        "map_size": result.map_size,
        "test_images": list(result.scores),
    }
    buffer = io.BytesIO()
    # Any: numpy's stub has it that one of the names may be `allow_pickle`.
    contents: dict[str, Any] = {"about": json.dumps(about), **arrays}
    np.savez_compressed(buffer, **contents)
    write_atomically(path, buffer.getvalue())


def load_result(path: Path) -> Result:
    """Reads what `save_result` wrote.

    Raises:
        ValueError: the file is no such result; names it.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            sets = list(enumerate(about["test_images"]))
            path_arrays = {k[5:]: arrays[k] for k in arrays if k.startswith("path.")}
            return Result(
                probe=ProbeSpec(**about["probe"]),
                tasks=tuple(Task(*task) for task in about["tasks"]),
                seeds=tuple(about["seeds"]),
                map_size=about["map_size"],
                losses=arrays["losses"],
                scores={t: _scores(arrays, i) for i, t in sets},
                galleries={
                    t: Gallery(arrays[f"{i}.images"], arrays[f"{i}.predictions"]) for i, t in sets
                },
                path=PenaltyPath(**path_arrays) if path_arrays else None,
            )
    # Damage makes zipfile, zlib and numpy raise almost anything; to the caller it is one error.
    except Exception as error:
        raise ValueError(
            f"{path} is not a result of this version ({error!r}): delete it to measure it again"
        ) from error


def _scores(arrays: Mapping[str, np.ndarray], i: int) -> Scores:
    keys = {field.name: f"{i}.{field.name}" for field in dataclasses.fields(Scores)}
    return Scores(**{name: arrays[key] for name, key in keys.items() if key in arrays})


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Writes records whole or not at all; six significant digits, undefined values empty.

    The column `control` is there where any of them is one.
    """
    names = [field.name for field in dataclasses.fields(Record)]
    if not any(record.control for record in records):
        names.remove("control")
    cells = ([getattr(record, name) for name in names] for record in records)
    rows = ([f"{c:.6g}" if isinstance(c, float) else c for c in row] for row in cells)
    write_rows(path, names, rows)
