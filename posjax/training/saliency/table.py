"""How well networks find salient objects: figures with intervals, and those of a prior beside."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from posjax.runtime import write_rows
from posjax.training.saliency.measures import FIGURES, MEASURED, saliency_figures
from posjax.training.task import WEIGHTS

MEASURES = "measures.npz"
COLUMNS = ("encoder", "padding", "minus", "figure", "value", "low", "high", "seeds", "images")
RESAMPLES = 1000
PRIOR = "mean mask"
"""The control: the average of the masks of training as the prediction for every image."""
Measured = dict[str, np.ndarray]
Networks = dict[int, Measured]
"""The measures of the networks of one padding mode, by seed."""
PAPER = """\
the paper's Table 5 (VGG-16, ECSSD): F-measure .36, MAE .48 without padding; .78, .17 with it"""


def write_table(workdir: Path) -> str:
    """Writes saliency.csv of the finished trainings in a workdir; the same as text.

    Intervals are 95 % of a bootstrap over seeds and images, which are the same for all padding
    modes, so that differences are paired; of modes with unlike seeds, those that both have.
    """
    groups = _groups(workdir)
    if not groups:
        return "no training has finished yet"
    rows = [row for mode, networks in groups.items() for row in _rows(*mode, networks)]
    for encoder, padding in groups:
        zeros = groups.get((encoder, "zeros"))
        if zeros and padding != "zeros":
            rows += _rows(encoder, padding, groups[encoder, padding], minus=zeros)
    cells = ((*row[:4], *(f"{value:.4f}" for value in row[4:7]), *row[7:]) for row in rows)
    write_rows(workdir / "saliency.csv", COLUMNS, cells)
    return _as_text(rows)


def _as_text(rows: Iterable[tuple]) -> str:
    """Figures in columns; differences from zero padding below them."""
    cells = {"(seeds x test images)": "".join(f"{name:>26}" for name in FIGURES)}
    for encoder, padding, minus, _, value, low, high, seeds, images in rows:
        name, sign = (f"{padding} - {minus}", "+") if minus else (padding, "")
        label = f"{encoder} {name} ({seeds} x {images})"
        cell = f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
        cells[label] = cells.get(label, "") + f"{cell:>26}"
    return "\n".join([*(f"{label:48}{cell}" for label, cell in cells.items()), PAPER])


def _groups(workdir: Path) -> dict[tuple[str, str], Networks]:
    """The measures of every encoder and padding mode, and those of the prior, of seed 0."""
    groups: dict[tuple[str, str], Networks] = {}
    prior: Measured = {}
    for path in sorted(workdir.glob(f"*/{MEASURES}")):
        if not (path.parent / WEIGHTS).exists():
            continue  # its training is being written
        with np.load(path) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
        prior = {name: arrays.pop(f"prior_{name}") for name in MEASURED}
        groups.setdefault((about["encoder"], about["padding"]), {})[about["seed"]] = arrays
    if prior:
        groups["any", PRIOR] = {0: prior}
    return groups


def _rows(
    encoder: str, padding: str, networks: Networks, minus: Networks | None = None
) -> list[tuple]:
    """One row for each figure, with the `COLUMNS`."""
    seeds = sorted(networks.keys() & minus.keys() if minus else networks.keys())
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
    if minus:
        other = _figures([minus[seed] for seed in seeds], of_images)
        figures = {name: values - other[name] for name, values in figures.items()}
    rows = []
    for name in FIGURES:
        means = np.sum(figures[name] * of_seeds, axis=1) / len(seeds)
        interval = (float(means[0]), *np.nanquantile(means[1:], (0.025, 0.975)))
        base = "zeros" if minus else ""
        rows.append((encoder, padding, base, name, *interval, len(seeds), images))
    return rows


def _figures(networks: list[Measured], weights: np.ndarray) -> dict[str, np.ndarray]:
    stacked = {name: np.stack([network[name] for network in networks]) for name in MEASURED}
    return saliency_figures(stacked, weights)
