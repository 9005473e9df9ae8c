"""Results: per-image scores, records with intervals, summaries over seeds."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from posjax.probes import constant_mae
from posjax.probes.controls import Task, task_map
from posjax.runs.bootstrap import bootstrap_mean


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a group of readouts has in common: the encoder and the shape of the readout.

    `control` is empty, or says what it is a control of the result for: `pixels`, `random` (the
    encoder's weights), `roll` (the images), or the control of its `controls.Task`.
    """

    encoder: str
    weights: str
    padding: str
    stages: str
    depth: int
    kernel_size: int
    readout_padding: int
    solver: str
    control: str = ""

    @property
    def seeded(self) -> bool:
        """Whether seeds enter: closed forms need none, but random encoders do."""
        return self.solver == "sgd" or self.weights == "random"


Key = tuple[Probe, str, str]  # probe, map and test images


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of r readouts on each of n test images; SPC is NaN where it is undefined.

    `ring_spc` and `ring_mae` are those of the 14 rings around the centre, from the border inwards,
    `error` is the mean absolute error over the images in 28 x 28 cells, see `probes.profiles`; None
    where maps are too small for it.
    """

    spc: Float[np.ndarray, "r n"]
    mae: Float[np.ndarray, "r n"]
    ring_spc: Float[np.ndarray, "r n 14"] | None = None
    ring_mae: Float[np.ndarray, "r n 14"] | None = None
    error: Float[np.ndarray, "r 28 28"] | None = None


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The first k test images and what the first seed's readout of each map predicts on them."""

    images: UInt8[np.ndarray, "k h w 3"]
    predictions: UInt8[np.ndarray, "t k h2 w2"]


@dataclasses.dataclass(frozen=True)
class PenaltyPath:
    """How each of r penalties was chosen: the p that were tried, and their held-out errors."""

    penalties: Float[np.ndarray, " p"]
    held_out: Float[np.ndarray, "p r"]
    chosen: Float[np.ndarray, " r"]


@dataclasses.dataclass(frozen=True)
class Result:
    """All that a group of r readouts gave: one for every pair of `tasks[i]` and `seeds[i]`.

    Of a closed form, `losses` are a single step, and seeds are None unless the encoder has one.
    """

    probe: Probe
    tasks: tuple[Task, ...]
    seeds: tuple[int | None, ...]
    map_size: int
    losses: Float[np.ndarray, "steps r"]
    scores: dict[str, Scores]
    galleries: dict[str, Gallery]
    path: PenaltyPath | None = None

    @property
    def maps(self) -> tuple[str, ...]:
        """The position map of every readout."""
        return tuple(task.map for task in self.tasks)

    def probe_of(self, readout: int) -> Probe:
        """The probe of one readout: with its task's control."""
        control = self.tasks[readout].control or self.probe.control
        return dataclasses.replace(self.probe, control=control)


@dataclasses.dataclass(frozen=True)
class Record:
    """One row of results.csv: one readout on one set of test images.

    `spc` and its interval are None where every prediction is constant; `spc_undefined` counts the
    images where it is. `low` and `high` are bootstrap 95 % intervals over images. `control` is
    that of `Probe`.
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


@dataclasses.dataclass(frozen=True)
class Summary:
    """A probe and position map on one set of test images, over all its seeds.

    Means over seeds and images, with 95 % intervals of a bootstrap that draws both anew; SPC is
    None where every prediction is constant.
    """

    probe: Probe
    map: str
    test_images: str
    n_seeds: int
    n_images: int
    spc: tuple[float, float, float] | None
    spc_undefined: int
    mae: tuple[float, float, float]
    mae_constant: float
    skill: float


def readouts(results: Iterable[Result]) -> Iterator[tuple[Key, Result, int, Scores]]:
    """Every readout on every set of test images, with its place in its result and scores."""
    for result in results:
        for test_images, scores in result.scores.items():
            for i, task in enumerate(result.tasks):
                yield (result.probe_of(i), task.map, test_images), result, i, scores


def to_records(result: Result) -> list[Record]:
    """The rows of a result, by test images, then readout."""
    rows = []
    for test_images, scores in result.scores.items():
        for i, (task, seed) in enumerate(zip(result.tasks, result.seeds, strict=True)):
            spc, spc_low, spc_high = bootstrap_mean(scores.spc[i : i + 1]) or (None, None, None)
            mae, mae_low, mae_high = bootstrap_mean(scores.mae[i : i + 1])
            constant = float(constant_mae(task_map(task, result.map_size)))
            rows.append(
                Record(
                    map=task.map,
                    seed=seed,
                    test_images=test_images,
                    n_images=scores.mae.shape[1],
                    spc=spc,
                    spc_low=spc_low,
                    spc_high=spc_high,
                    spc_undefined=int(np.isnan(scores.spc[i]).sum()),
                    mae=mae,
                    mae_low=mae_low,
                    mae_high=mae_high,
                    mae_constant=constant,
                    skill=1 - mae / constant,
                    **dataclasses.asdict(result.probe_of(i)),
                )
            )
    return rows


def summarise(results: Iterable[Result]) -> list[Summary]:
    """Summaries over seeds, in the order in which probes, maps and test images first appear.

    Results of one probe may be several, each with other seeds.
    """
    groups: dict[Key, list[tuple[Result, int, Scores]]] = {}
    for key, *found in readouts(results):
        groups.setdefault(key, []).append(tuple(found))
    summaries = []
    for (probe, name, test_images), rows in groups.items():
        spc, mae = (
            np.stack([getattr(scores, score)[i] for _, i, scores in rows])
            for score in ("spc", "mae")
        )
        first, i, _ = rows[0]
        constant = float(constant_mae(task_map(first.tasks[i], first.map_size)))
        error = bootstrap_mean(mae)
        summaries.append(
            Summary(
                probe=probe,
                map=name,
                test_images=test_images,
                n_seeds=len(rows),
                n_images=mae.shape[1],
                spc=bootstrap_mean(spc),
                spc_undefined=int(np.isnan(spc).sum()),
                mae=error,
                mae_constant=constant,
                skill=1 - error[0] / constant,
            )
        )
    return summaries


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


def write_rows(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all, whenever the process is killed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
