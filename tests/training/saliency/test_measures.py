"""Measures of saliency are those of their definitions."""

import jax
import numpy as np
import pytest

from posjax.training.saliency.measures import FIGURES, saliency_figures, saliency_measures

MEASURE = jax.jit(saliency_measures)


def f_of(chosen, truth):
    hits = (chosen & truth).sum()
    if hits == 0:
        return 0.0
    precision, recall = hits / chosen.sum(), hits / truth.sum()
    return 1.3 * precision * recall / (0.3 * precision + recall)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    truth = rng.random((5, 9, 8)) < 0.3
    noise = rng.random((5, 9, 8)).astype(np.float32)
    predicted = np.clip(0.4 * truth + 0.6 * noise, 0, 1).astype(np.float32)
    predicted[3] = 0.25  # at twice the mean there is nothing
    return predicted, truth


def test_figures_are_those_of_their_definitions_and_weights_count_images(pairs):
    measures = jax.device_get(MEASURE(*pairs))
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 3]])
    figures = saliency_figures({k: v[None] for k, v in measures.items()}, weights)
    for row, counts in enumerate(weights):
        predicted, truth = (np.repeat(array, counts, axis=0) for array in pairs)
        assert figures["mae"][row, 0] == pytest.approx(abs(predicted - truth).mean(), abs=1e-6)
        adaptive = [
            f_of(p >= min(2 * p.mean(), 1), t) for p, t in zip(predicted, truth, strict=True)
        ]
        assert figures["f_adaptive"][row, 0] == pytest.approx(np.mean(adaptive), abs=1e-6)
        both = [((predicted >= 0.5) == side) & (truth == side) for side in (False, True)]
        either = [((predicted >= 0.5) == side) | (truth == side) for side in (False, True)]
        overlap = [a.sum() / b.sum() for a, b in zip(both, either, strict=True)]
        assert figures["miou"][row, 0] == pytest.approx(np.mean(overlap), abs=1e-6)
        best = 0
        for level in range(256):
            chosen = np.rint(predicted * 255) >= level
            hits = (chosen & truth).sum(axis=(1, 2))
            precision = np.mean(hits / np.maximum(chosen.sum(axis=(1, 2)), 1))
            recall = np.mean(hits / truth.sum(axis=(1, 2)))
            best = max(best, 1.3 * precision * recall / max(0.3 * precision + recall, 1e-9))
        assert figures["f_max"][row, 0] == pytest.approx(best, abs=1e-5)


def figures_of(predicted, truth):
    measures = jax.device_get(MEASURE(predicted, truth))
    stacked = {name: array[None] for name, array in measures.items()}
    figures = saliency_figures(stacked, np.ones((1, len(truth))))
    return {name: figures[name][0, 0] for name in FIGURES}


def test_an_image_without_a_salient_pixel_has_no_f_measure(pairs):
    predicted, truth = pairs[0], pairs[1].copy()
    truth[1] = False
    rest = [0, 2, 3, 4]
    figures, others = figures_of(predicted, truth), figures_of(predicted[rest], truth[rest])
    for name in ("f_adaptive", "f_max"):
        assert figures[name] == pytest.approx(others[name], abs=1e-6)
    truth[:] = False
    nothing = figures_of(predicted, truth)
    assert np.isnan([nothing["f_adaptive"], nothing["f_max"]]).all()
