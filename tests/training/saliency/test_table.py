"""The table of saliency: pooled over seeds, paired between padding modes, beside a prior."""

import csv
import json

import jax
import numpy as np

from posjax.training.saliency.measures import saliency_measures
from posjax.training.saliency.table import MEASURES, write_table
from posjax.training.task import WEIGHTS

MEASURE = jax.jit(saliency_measures)


def write(workdir, padding, seed, quality, finished=True):
    """Measures of predictions that are right to so great a part."""
    rng = np.random.default_rng(0)
    truth = rng.random((20, 8, 8)) < 0.4
    noise = np.random.default_rng(seed + 1).random(truth.shape)
    predicted = (quality * truth + (1 - quality) * noise).astype(np.float32)
    folder = workdir / f"vgg8_bn_quarter-{padding}-seed{seed}"
    folder.mkdir(parents=True)
    about = json.dumps({"encoder": "vgg8_bn_quarter", "padding": padding, "seed": seed})
    flat = np.full(truth.shape, 0.4, np.float32)
    prior = {f"prior_{k}": np.asarray(v) for k, v in MEASURE(flat, truth).items()}
    measures = {k: np.asarray(v) for k, v in MEASURE(predicted, truth).items()}
    np.savez(folder / MEASURES, about=about, loss=np.ones(20), **measures, **prior)
    if finished:
        (folder / WEIGHTS).write_bytes(b"")
    return measures


def test_it_pools_seeds_pairs_modes_and_shows_the_prior(tmp_path):
    zeros = [write(tmp_path, "zeros", seed, 0.7) for seed in (0, 1, 2)]
    reflect = [write(tmp_path, "reflect", seed, 0.5) for seed in (0, 1)]
    write(tmp_path, "circular", 0, 0.9, finished=False)
    text = write_table(tmp_path)
    rows = list(csv.DictReader((tmp_path / "saliency.csv").read_text().splitlines()))
    by_name = {(row["padding"], row["minus"], row["figure"]): row for row in rows}
    assert {row["padding"] for row in rows} == {"zeros", "reflect", "mean mask"}
    mean = np.mean([one["mae"] for one in zeros])
    row = by_name["zeros", "", "mae"]
    assert float(row["value"]) == np.round(mean, 4)
    assert float(row["low"]) < mean < float(row["high"])
    assert (row["seeds"], row["images"]) == ("3", "20")
    # A difference is of the seeds that both have, and pairs their images.
    row = by_name["reflect", "zeros", "mae"]
    gap = np.mean([b["mae"] for b in reflect]) - np.mean([a["mae"] for a in zeros[:2]])
    assert float(row["value"]) == np.round(gap, 4)
    assert row["seeds"] == "2"
    assert 0 < float(row["low"]) < float(row["high"])
    width = float(row["high"]) - float(row["low"])
    alone = by_name["reflect", "", "mae"]
    assert width < float(alone["high"]) - float(alone["low"])
    assert "reflect - zeros (2 x 20)" in text
    assert "mean mask" in text


def test_a_workdir_without_a_finished_training_says_so(tmp_path):
    write(tmp_path, "zeros", 0, 0.5, finished=False)
    assert write_table(tmp_path) == "no training has finished yet"
    assert not (tmp_path / "saliency.csv").exists()
