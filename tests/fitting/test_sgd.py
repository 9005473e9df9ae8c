"""SGD: a readout in a grid is the readout alone, and the order of images depends on the epoch."""

import jax
import numpy as np
import pytest

from posjax import runtime
from posjax.features import Features
from posjax.fitting import SGD, Readouts
from posjax.fitting.sgd import batch_rows
from posjax.probes import Readout, fit, position_map
from posjax.probes.controls import Task
from posjax.probes.trainer import step_decay

READOUT = Readout(feature_size=(8, 8), map_size=(16, 16))
DEEP = Readout(depth=2, feature_size=(8, 8), map_size=(16, 16))
STAGES = ("f1", "f2")
ONE = runtime.local_devices(1)
PAIRS = [(name, seed) for name in ("H", "V", "G", "HS") for seed in (0, 1, 5)]


def make_features(n=7, kind=Features):
    draw = np.random.default_rng(n).normal
    shapes = {"f1": (8, 8, 2), "f2": (4, 4, 3), "f3": (2, 2, 1)}
    stages = {k: draw(size=(n, *shape)).astype(np.float32) for k, shape in shapes.items()}
    return kind(stages, n)


def train(readout=READOUT, pairs=(("H", 0), ("G", 1)), features=None, devices=ONE, log=None, **sgd):
    maps, seeds = zip(*pairs, strict=True)
    readouts = Readouts(readout, STAGES, tuple(map(Task, maps)), seeds)
    sgd = SGD(**({"epochs": 3, "batch_size": 3} | sgd))
    fitted = sgd.fit(readouts, features or make_features(), devices, log)
    return fitted.variables, fitted.losses


def readout_at(i, variables):
    return jax.tree.map(lambda array: array[i], variables)


def assert_close(found, expected, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@pytest.mark.parametrize("readout", [READOUT, DEEP], ids=["depth 1", "depth 2"])
def test_a_grid_trains_each_readout_as_fit_trains_it_alone(readout):
    features = make_features()
    variables, losses = train(readout, PAIRS, features)
    initial, _ = train(readout, PAIRS, features, epochs=0)
    batches = [  # the last one of an epoch is smaller
        features.rows(rows, STAGES) for epoch in range(3) for rows in batch_rows(7, 3, epoch)
    ]
    rates = step_decay(0.1, epochs=3, steps_per_epoch=3)
    start, target = readout_at(5, initial), position_map(PAIRS[5][0], 16)
    expected = fit(readout, start, batches, target, learning_rate=rates)
    assert_close((readout_at(5, variables), losses[:, 5]), expected)


def test_initial_weights_depend_on_map_and_seed_alone():
    variables, losses = train(pairs=PAIRS, epochs=0)
    assert losses.shape == (0, 12)
    kernels = np.reshape(variables["params"]["conv1"]["kernel"], (12, -1))
    assert len(np.unique(kernels.round(4), axis=0)) == 12
    alone, _ = train(pairs=PAIRS[5:6], epochs=0)
    assert_close(readout_at(0, alone), readout_at(5, variables))


class Watched(Features):
    """Features that note which rows and stages are read."""

    def rows(self, index, stages):
        self.seen.append((tuple(index.tolist()), tuple(stages)))
        return super().rows(index, stages)


def rows_read(devices=ONE, **options):
    features = make_features(kind=Watched)
    object.__setattr__(features, "seen", [])
    train(features=features, devices=devices, **options)
    assert {stages for _, stages in features.seen} == {STAGES}
    return [index for index, _ in features.seen if len(index)][1:]  # the first is a sample


def test_the_order_of_the_images_depends_on_the_epoch_alone():
    first = rows_read()
    assert rows_read(pairs=(("V", 9), ("HS", 4))) == first
    assert rows_read(runtime.local_devices(8)) == first
    epochs = [first[i : i + 3] for i in (0, 3, 6)]
    assert len(set(map(tuple, epochs))) == 3
    for batches in epochs:
        assert [len(rows) for rows in batches] == [3, 3, 1]
        assert sorted(sum(batches, ())) == list(range(7))


def test_eight_devices_train_as_one_does():
    variables, losses = train(devices=runtime.local_devices(8))
    expected, expected_losses = train()
    assert_close(losses, expected_losses)
    assert_close(variables, expected)


def test_the_log_has_each_epoch_s_mean_loss_of_each_readout():
    logged = []
    _, losses = train(log=lambda epoch, loss: logged.append((epoch, loss)))
    assert [epoch for epoch, _ in logged] == [0, 1, 2]
    np.testing.assert_allclose([loss for _, loss in logged], losses.reshape(3, 3, 2).mean(axis=1))
    assert losses.dtype == np.float32


def test_a_loss_that_is_not_finite_names_readout_step_and_learning_rate():
    message = r"readout map V, seed 7 is nan at step [1-5] with learning rate 1e\+30"
    with pytest.raises(FloatingPointError, match=message):
        train(pairs=(("V", 7), ("G", 7)), learning_rate=1e30)
