"""Accuracies with their intervals, from the weights that trainings left."""

import csv

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import binomtest

from posjax.training.accuracy import wilson, write_table


@pytest.mark.parametrize(("correct", "count"), [(0, 7), (7, 7), (831, 1000), (9, 10000)])
def test_the_interval_is_wilsons(correct, count):
    expected = binomtest(correct, count).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(correct, count), expected, atol=1e-6)


def test_all_finished_trainings_are_in_the_table(tmp_path):
    for padding, seed, correct in (("zeros", 0, 90), ("reflect", 0, 80), ("zeros", 1, 70)):
        folder = tmp_path / f"resnet20-{padding}-seed{seed}"
        folder.mkdir()
        about = {"encoder": "resnet20", "padding": padding, "seed": str(seed), "recipe": "{}"}
        about |= {"test_correct": str(correct), "test_count": "100"}
        save_file({"x": np.zeros(1)}, folder / "weights.safetensors", about)
    (tmp_path / "resnet20-circular-seed0").mkdir()
    (tmp_path / "foreign").mkdir()
    save_file({"x": np.zeros(1)}, tmp_path / "foreign" / "weights.safetensors")
    text = write_table(tmp_path)
    rows = list(csv.DictReader((tmp_path / "accuracy.csv").read_text().splitlines()))
    actual = [(row["padding"], row["seed"], float(row["accuracy"])) for row in rows]
    assert actual == [("reflect", "0", 0.8), ("zeros", "0", 0.9), ("zeros", "1", 0.7)]
    assert "resnet20 reflect seed 0" in text
    assert "80.0% [71.1%, 86.7%]" in text
