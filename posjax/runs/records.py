"""Results on disk and in memory: per-image scores, records with intervals, summaries over seeds."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from posjax.probes import constant_mae, position_map

RESAMPLES = 2000
CHUNK = 1 << 19  # values drawn at a time: bounds the memory, not the result's precision


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a group of readouts has in common: the encoder and the shape of the readout."""

    encoder: str
    weights: str
    padding: str
    stages: str
    depth: int
    kernel_size: int
    readout_padding: int
    solver: str

    @property
    def seeded(self) -> bool:
        """Whether seeds enter: closed forms need none, but random encoders do."""
        return self.solver == "sgd" or self.weights == "random"


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of r readouts on each of n test images; SPC is NaN where it is undefined."""

    spc: Float[np.ndarray, "r n"]
    mae: Float[np.ndarray, "r n"]


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
    """All that a group of r readouts gave: one for every pair of `maps[i]` and `seeds[i]`.

    Of a closed form, `losses` are a single step, and seeds are None unless the encoder has one.
    """

    probe: Probe
    maps: tuple[str, ...]
    seeds: tuple[int | None, ...]
    map_size: int
    losses: Float[np.ndarray, "steps r"]
    scores: dict[str, Scores]
    galleries: dict[str, Gallery]
    path: PenaltyPath | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """One row of results.csv: one readout on one set of test images.

    `spc` and its interval are None where every prediction is constant; `spc_undefined` counts the
    images where it is. `low` and `high` are bootstrap 95 % intervals over images.
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


def to_records(result: Result) -> list[Record]:
    """The rows of a result, by test images, then readout."""
    rows = []
    for test_images, scores in result.scores.items():
        for i, (name, seed) in enumerate(zip(result.maps, result.seeds, strict=True)):
            spc, spc_low, spc_high = bootstrap_mean(scores.spc[i : i + 1]) or (None, None, None)
            mae, mae_low, mae_high = bootstrap_mean(scores.mae[i : i + 1])
            constant = float(constant_mae(position_map(name, result.map_size)))
            rows.append(
                Record(
                    map=name,
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
                    **dataclasses.asdict(result.probe),
                )
            )
    return rows


def summarise(results: Iterable[Result]) -> list[Summary]:
    """Summaries over seeds, in the order in which probes, maps and test images first appear.

    Results of one probe may be several, each with other seeds.
    """
    groups: dict[tuple[Probe, str, str], list[tuple[np.ndarray, np.ndarray, int]]] = {}
    for result in results:
        for test_images, scores in result.scores.items():
            for i, name in enumerate(result.maps):
                rows = groups.setdefault((result.probe, name, test_images), [])
                rows.append((scores.spc[i], scores.mae[i], result.map_size))
    summaries = []
    for (probe, name, test_images), rows in groups.items():
        spc, mae = (np.stack([row[i] for row in rows]) for i in (0, 1))
        constant = float(constant_mae(position_map(name, rows[0][2])))
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


def bootstrap_mean(
    values: Float[np.ndarray, "seeds images"], resamples: int = RESAMPLES
) -> tuple[float, float, float] | None:
    """Mean of all defined values, and the 95 % percentile interval of a crossed bootstrap.

    Each of the resamples draws seeds with replacement, and images with replacement, the same ones
    for all its seeds: every seed was measured on the same images, so what an image adds is shared
    (Owen 2007, the pigeonhole bootstrap). NaN is left out, resamples without a defined value are
    drawn anew; None where nothing is defined. The resamples are the same on every call.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        return None
    known = np.where(defined, values, 0).astype(np.float64)
    images = values.shape[1]
    rng = np.random.default_rng(0)
    means = []
    while (left := resamples - len(means)) > 0:
        chunk = min(left, max(1, CHUNK // images))
        # How often each is drawn is all that a mean needs to know of a resample.
        of_seeds, of_images = (
            rng.multinomial(n, np.full(n, 1 / n), size=chunk).astype(float) for n in values.shape
        )
        totals = np.sum((of_seeds @ known) * of_images, axis=1)
        counts = np.sum((of_seeds @ defined) * of_images, axis=1)
        means.extend(totals[counts > 0] / counts[counts > 0])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(known.sum() / defined.sum()), float(low), float(high)


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Writes results.csv whole or not at all; six significant digits, undefined values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Record))
    for record in records:
        cells = dataclasses.astuple(record)
        writer.writerow(f"{c:.6g}" if isinstance(c, float) else c for c in cells)
    write_atomically(path, text.getvalue().encode())


def save_result(path: Path, result: Result) -> None:
    """Writes a result to an .npz file, whole or not at all."""
    arrays = {"losses": result.losses}
    if result.path is not None:
        arrays |= {f"path.{k}": v for k, v in vars(result.path).items()}
    for i, (scores, gallery) in enumerate(
        zip(result.scores.values(), result.galleries.values(), strict=True)
    ):
        arrays |= {f"{i}.{k}": v for k, v in vars(scores).items()}
        arrays |= {f"{i}.{k}": v for k, v in vars(gallery).items()}
    about = {
        "probe": dataclasses.asdict(result.probe),
        "maps": result.maps,
        "seeds": result.seeds,
        "map_size": result.map_size,
        "test_images": list(result.scores),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=json.dumps(about), **arrays)
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
            tried = {k[5:]: arrays[k] for k in arrays if k.startswith("path.")}
            return Result(
                probe=Probe(**about["probe"]),
                maps=tuple(about["maps"]),
                seeds=tuple(about["seeds"]),
                map_size=about["map_size"],
                losses=arrays["losses"],
                scores={t: Scores(arrays[f"{i}.spc"], arrays[f"{i}.mae"]) for i, t in sets},
                galleries={
                    t: Gallery(arrays[f"{i}.images"], arrays[f"{i}.predictions"]) for i, t in sets
                },
                path=PenaltyPath(**tried) if tried else None,
            )
    # Damage makes zipfile, zlib and numpy raise almost anything; to the caller it is one error.
    except Exception as error:
        raise ValueError(
            f"{path} is not a result of this version ({error!r}): delete it to measure it anew"
        ) from error


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
