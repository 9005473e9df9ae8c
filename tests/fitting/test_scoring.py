"""Scores: the metrics of the predictions, image by image, wherever an image is scored."""

import jax
import numpy as np
import pytest
from test_sgd import DEEP, ONE, READOUT, STAGES, assert_close, make_features, readout_at, train

from posjax import runtime
from posjax.features import Features
from posjax.fitting import Readouts, predict, score
from posjax.probes import Readout, mae, position_map, spc
from posjax.probes.controls import IMAGE_SHUFFLED, Task
from posjax.probes.profiles import error_cells, ring_means, ring_spc

MAPS = ("H", "G")
LARGE = Readout(feature_size=(8, 8), map_size=(32, 32))
TASKS = tuple(map(Task, MAPS))


def readouts(readout, tasks=TASKS):
    return Readouts(readout, STAGES, tasks, (0,) * len(tasks))


@pytest.mark.parametrize("readout", [READOUT, DEEP], ids=["depth 1", "depth 2"])
def test_predictions_are_those_of_each_readout(readout):
    variables, _ = train(readout, epochs=0)
    batch = make_features(4).rows(np.arange(4), STAGES)
    predictions = predict(readout, variables, batch)
    apply = jax.jit(readout.apply)
    for i in range(2):
        assert_close(predictions[i], apply(readout_at(i, variables), batch))


def test_scores_are_the_metrics_of_the_predictions():
    variables, _ = train(LARGE, epochs=0)
    features = make_features(4)
    scores = score(readouts(LARGE), variables, features, ONE, batch_size=3)
    predictions = predict(LARGE, variables, features.rows(np.arange(4), STAGES))
    for i, name in enumerate(MAPS):
        target = position_map(name, 32)
        assert_close(scores.spc[i], spc(predictions[i], target))
        assert_close(scores.mae[i], mae(predictions[i], target))
        cells = np.asarray(error_cells(predictions[i], target))
        assert_close(scores.ring_spc[i], jax.jit(ring_spc)(predictions[i], target))
        assert_close(scores.ring_mae[i], ring_means(cells))
        assert_close(scores.error[i], cells.mean(axis=0))


def test_an_image_without_an_spc_is_nan_and_the_others_are_not():
    variables, _ = train()
    stages = {name: array.copy() for name, array in make_features(4).stages.items()}
    for array in stages.values():
        array[2] = 0.5
    scores = score(readouts(READOUT), variables, Features(stages, 4), ONE)
    np.testing.assert_array_equal(np.isnan(scores.spc), [[False, False, True, False]] * 2)
    assert np.isfinite(scores.mae).all()
    assert scores.error is None  # the map has fewer pixels than cells


def test_eight_devices_score_as_one_does():
    variables, _ = train(epochs=0)
    tasks = (Task("H"), Task("G", IMAGE_SHUFFLED))
    found, expected = (
        score(readouts(READOUT, tasks), variables, make_features(5), devices, batch_size=4)
        for devices in (runtime.local_devices(8), ONE)
    )
    assert_close((found.spc, found.mae), (expected.spc, expected.mae))
