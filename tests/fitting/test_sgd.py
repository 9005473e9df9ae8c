"""Grids: a readout in a grid is the readout alone, and a resumed training the uninterrupted one."""

import functools

import jax
import numpy as np
import pytest
from toy import tasks

from posjax.probes import Readout, fit, mae, position_map, spc
from posjax.probes.trainer import step_decay
from posjax.runtime import checkpoints
from posjax.fitting import sgd as grid
from posjax import runtime
from posjax.fitting import scoring
from posjax.runtime.checkpoints import Checkpoints
from posjax.features.features import Features

READOUT = Readout(feature_size=(8, 8), map_size=(16, 16))
DEEP = Readout(depth=2, feature_size=(8, 8), map_size=(16, 16))
STAGES = ("f1", "f2")
ONE = runtime.local_devices(1)
MAPS, SEEDS = zip(
    *[(name, seed) for name in ("H", "V", "G", "HS") for seed in (0, 1, 5)], strict=True
)


def make_features(n=7):
    draw = np.random.default_rng(n).normal
    return Features(
        {
            "f1": draw(size=(n, 8, 8, 2)).astype(np.float32),
            "f2": draw(size=(n, 4, 4, 3)).astype(np.float32),
            "f3": draw(size=(n, 2, 2, 1)).astype(np.float32),
        }
    )


def train(readout=READOUT, maps=("H", "G"), seeds=(0, 1), features=None, **options):
    options = {"epochs": 3, "batch_size": 3, "devices": ONE} | options
    features = make_features() if features is None else features
    return grid.train(readout, features, STAGES, tasks(*maps), seeds, **options)


def assert_close(found, expected, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@pytest.mark.parametrize("readout", [READOUT, DEEP], ids=["depth 1", "depth 2"])
def test_a_readout_in_a_grid_of_twelve_is_the_readout_alone(readout):
    variables, losses = train(readout, MAPS, SEEDS)
    for i in (0, 5, 11):
        alone, alone_losses = train(readout, MAPS[i : i + 1], SEEDS[i : i + 1])
        assert_close(alone_losses[:, 0], losses[:, i])
        assert_close(alone, jax.tree.map(lambda a, i=i: a[i : i + 1], variables))


def test_every_pair_of_map_and_seed_starts_from_other_weights():
    variables, losses = train(maps=MAPS, seeds=SEEDS, epochs=0)
    assert losses.shape == (0, 12)
    kernels = np.reshape(variables["params"]["conv1"]["kernel"], (12, -1))
    assert len(np.unique(kernels.round(4), axis=0)) == 12


def test_a_grid_trains_each_readout_as_fit_does():
    features = make_features()
    variables, losses = train(features=features)
    initial, _ = train(features=features, epochs=0)
    batches = [  # the last one of an epoch is smaller
        features.rows(rows, STAGES) for epoch in range(3) for rows in grid._order(7, 3, epoch)
    ]
    for i, name in enumerate(("H", "G")):
        expected, expected_losses = fit(
            READOUT,
            jax.tree.map(lambda a, i=i: a[i], initial),
            batches,
            position_map(name, 16),
            learning_rate=step_decay(0.1, epochs=3, steps_per_epoch=3),
        )
        assert_close(losses[:, i], expected_losses)
        assert_close(jax.tree.map(lambda a, i=i: a[i], variables), expected)


def test_scores_are_the_metrics_of_the_predictions():
    maps = ("H", "G")
    variables, _ = train(DEEP, epochs=0)
    features = make_features(4)
    scores = scoring.score(
        DEEP, variables, features, STAGES, tasks(*maps), batch_size=3, devices=ONE
    )
    batch = features.rows(np.arange(4), STAGES)
    predictions = scoring.predict(DEEP, variables, batch)
    assert predictions.shape == (2, 4, 16, 16)
    for i, name in enumerate(maps):
        alone = jax.tree.map(lambda a, i=i: a[i], variables)
        assert_close(predictions[i], DEEP.apply(alone, batch))
        target = position_map(name, 16)
        assert_close(scores.spc[i], spc(predictions[i], target))
        assert_close(scores.mae[i], mae(predictions[i], target))


def test_an_image_without_an_spc_is_nan_and_the_others_are_not():
    variables, _ = train()
    stages = {name: array.copy() for name, array in make_features(4).stages.items()}
    for array in stages.values():
        array[2] = 0.5
    scores = scoring.score(
        READOUT, variables, Features(stages), STAGES, tasks("H", "G"), devices=ONE
    )
    np.testing.assert_array_equal(np.isnan(scores.spc), [[False, False, True, False]] * 2)
    assert np.isfinite(scores.mae).all()


class Watched(Features):
    """Features that note which rows and stages are read."""

    def rows(self, index, stages):
        self.seen.append((tuple(index), tuple(stages)))
        return super().rows(index, stages)

    @functools.cached_property
    def seen(self):
        return []


def rows_read(**options):
    object.__setattr__(features := Watched(make_features().stages), "seen", [])
    train(features=features, **options)
    assert {stages for _, stages in features.seen} == {STAGES}
    return [index for index, _ in features.seen][1:]  # the first is a sample for `init`


def test_the_order_of_the_images_depends_on_the_epoch_alone():
    first = rows_read()
    assert rows_read(maps=("V",), seeds=(9,)) == first
    assert rows_read(devices=runtime.local_devices(8)) == first
    epochs = [first[i : i + 3] for i in (0, 3, 6)]
    assert len(set(map(tuple, epochs))) == 3
    for batches in epochs:
        assert [len(rows) for rows in batches] == [3, 3, 1]
        assert sorted(sum(batches, ())) == list(range(7))


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)


class Killed(Exception):
    pass


@pytest.mark.usefixtures("every_epoch")
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    epochs = []  # that the second start trains

    def kill(epoch, _):
        if epoch == 1:
            raise Killed

    with Checkpoints(tmp_path) as saved, pytest.raises(Killed):
        train(checkpoints=saved, log=kill, epochs=3)
    with Checkpoints(tmp_path) as saved:
        resumed = train(checkpoints=saved, log=lambda epoch, _: epochs.append(epoch), epochs=3)
    assert epochs == [1, 2]
    uninterrupted = train(epochs=3)
    jax.tree.map(np.testing.assert_array_equal, resumed, uninterrupted)
    with Checkpoints(tmp_path) as saved:
        again = train(checkpoints=saved, log=kill, epochs=3)
    jax.tree.map(np.testing.assert_array_equal, again, uninterrupted)


@pytest.mark.usefixtures("every_epoch")
def test_a_checkpoint_of_eight_devices_serves_one(tmp_path):
    with Checkpoints(tmp_path) as saved:
        before = train(checkpoints=saved, devices=runtime.local_devices(8))
    with Checkpoints(tmp_path) as saved:
        after = train(checkpoints=saved)
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.usefixtures("every_epoch")
def test_a_checkpoint_of_other_readouts_is_refused(tmp_path):
    with Checkpoints(tmp_path / "group") as saved:
        train(checkpoints=saved)
    with (
        Checkpoints(tmp_path / "group") as saved,
        pytest.raises(ValueError, match=r"group/3.*delete"),
    ):
        train(maps=("H",), seeds=(0,), checkpoints=saved)


def test_the_log_has_each_epoch_s_mean_loss_of_each_readout():
    logged = []
    _, losses = train(log=lambda epoch, loss: logged.append((epoch, loss)))
    assert [epoch for epoch, _ in logged] == [0, 1, 2]
    np.testing.assert_allclose([loss for _, loss in logged], losses.reshape(3, 3, 2).mean(axis=1))
    assert losses.dtype == np.float32


def test_a_loss_that_is_not_finite_names_readout_step_and_learning_rate():
    said = r"readout map V, seed 7 is nan at step [1-5] with learning rate 1e\+30"
    with pytest.raises(FloatingPointError, match=said):
        train(maps=("V", "G"), seeds=(7, 7), learning_rate=1e30)
