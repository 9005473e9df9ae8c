"""How well networks find salient objects: figures with intervals, and those of a prior beside."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posjax.runtime import write_rows
from posjax.training.saliency.measures import FIGURES, saliency_figures
from posjax.training.task import WEIGHTS

MEASURES = "measures.npz"
COLUMNS = ("encoder", "padding", "minus", "figure", "value", "low", "high", "seeds", "images")
RESAMPLES = 1000
PRIOR = "mean mask"
"""The control: the average of the masks of training as the prediction for every image."""
PAPER = """\
the paper's Table 5 (VGG-16, ECSSD): F-measure .36, MAE .48 without padding; .78, .17 with it"""


class Row(NamedTuple):
    """One figure of the networks trained under a padding mode, or what it exceeds another's by."""

    encoder: str
    padding: str
    minus: str
    figure: str
    value: float
    low: float
    high: float
    seeds: int
    images: int


def write_table(workdir: Path) -> str:
    """Writes saliency.csv of the finished trainings in a workdir; the same as text.

    Intervals are 95 % of a bootstrap over seeds and images, which are the same for all padding
    modes, so that differences are paired; of modes with unlike seeds, those that both have.
    """
    groups = _groups(workdir)
    if not groups:
        return "no training has finished yet"
    rows = [row for name, networks in groups.items() for row in _rows(*name, networks)]
    modes = [name for name in groups if name[1] != PRIOR]
    for encoder, padding in modes:
        base = "zeros" if padding != "zeros" else ""
        if (encoder, base) in groups:
            pair = [groups[encoder, name] for name in (padding, base)]
            rows += _rows(encoder, padding, *pair, minus=base)
    cells = ((*row[:4], *(f"{value:.4f}" for value in row[4:7]), *row[7:]) for row in rows)
    write_rows(workdir / "saliency.csv", COLUMNS, cells)
    return as_text(rows)


def as_text(rows: Iterable[Row]) -> str:
    """Figures in columns; differences from zero padding below them."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        name = f"{row.padding} - {row.minus}" if row.minus else row.padding
        label = f"{row.encoder} {name} ({row.seeds} x {row.images})"
        sign = "+" if row.minus else ""
        interval = f"[{row.low:{sign}.3f}, {row.high:{sign}.3f}]"
        cells.setdefault(label, {})[row.figure] = f"{row.value:{sign}.3f} {interval}"
    lines = [f"{'(seeds x test images)':48}" + "".join(f"{name:>26}" for name in FIGURES)]
    lines += [
        f"{label:48}" + "".join(f"{figures[name]:>26}" for name in FIGURES)
        for label, figures in cells.items()
    ]
    return "\n".join([*lines, PAPER])


def _groups(workdir: Path) -> dict[tuple[str, str], dict[int, Mapping[str, np.ndarray]]]:
    """The measures of every encoder, padding mode and seed, and those of the prior, of seed 0."""
    groups: dict[tuple[str, str], dict[int, Mapping[str, np.ndarray]]] = {}
    prior: Mapping[str, np.ndarray] = {}
    for path in sorted(workdir.glob(f"*/{MEASURES}")):
        if not (path.parent / WEIGHTS).exists():
            continue  # its training is being written
        with np.load(path) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
        measures = {k: v for k, v in arrays.items() if not k.startswith("prior_")}
        groups.setdefault((about["encoder"], about["padding"]), {})[about["seed"]] = measures
        prior = {k.removeprefix("prior_"): v for k, v in arrays.items() if k not in measures}
    if prior:
        groups["any", PRIOR] = {0: prior}
    return groups


def _rows(
    encoder: str,
    padding: str,
    networks: dict[int, Mapping[str, np.ndarray]],
    other: dict[int, Mapping[str, np.ndarray]] | None = None,
    *,
    minus: str = "",
) -> list[Row]:
    seeds = sorted(networks.keys() & other.keys() if other else networks.keys())
    if not seeds:
        return []
    images = len(networks[seeds[0]]["mae"])
    rng = np.random.default_rng(0)
    # The first of the resamples has every seed and image once.
    of_seeds, of_images = (
        np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)])
        for n in (len(seeds), images)
    )
    figures = _figures([networks[seed] for seed in seeds], of_images)
    if other:
        against = _figures([other[seed] for seed in seeds], of_images)
        figures = {name: values - against[name] for name, values in figures.items()}
    rows = []
    for name in FIGURES:
        means = np.sum(figures[name] * of_seeds, axis=1) / len(seeds)
        low, high = np.nanquantile(means[1:], (0.025, 0.975))
        value = float(means[0])
        rows.append(Row(encoder, padding, minus, name, value, low, high, len(seeds), images))
    return rows


def _figures(
    networks: list[Mapping[str, np.ndarray]], weights: np.ndarray
) -> dict[str, np.ndarray]:
    stacked = {
        name: np.stack([network[name] for network in networks])
        for name in (*FIGURES[:1], "mae", "precision", "recall", "intersection", "union")
    }
    return saliency_figures(stacked, weights)
