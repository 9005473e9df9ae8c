"""Closed forms: known answers, the same on any devices, and not fitted twice."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import tasks

from posjax.probes import LinearReadout, position_map
from posjax.probes.moments import add_images, columns_of, moments, no_sums
from posjax.probes.ridge import fit_ridge
from posjax.fitting import closed_form
from posjax import runtime
from posjax.fitting import scoring
from posjax.runs import Settings, run
from posjax.runtime.checkpoints import Checkpoints
from posjax.features.features import Features

READOUT = LinearReadout(feature_size=(8, 8), map_size=(16, 16))
STAGES, MAPS = ("f1", "f2"), ("H", "G")
ONE, EIGHT = runtime.local_devices(1), runtime.local_devices(8)


def make_features(n=23, seed=0):
    """White noise, and with it nothing else."""
    draw = np.random.default_rng(seed).normal
    return Features(
        {
            "f1": draw(size=(n, 8, 8, 2)).astype(np.float32),
            "f2": draw(size=(n, 4, 4, 3)).astype(np.float32),
        }
    )


def with_coordinates(n=23, seed=0):
    """Features one of which grows from left to right, under noise of half its spread."""
    stages = make_features(n, seed).stages
    stages["f2"][..., 1] = np.linspace(-1, 1, 4) + 0.3 * stages["f2"][..., 1]
    return Features(stages)


def fit(features, batch_size=6, devices=ONE, **options):
    return closed_form.fit(
        READOUT, features, STAGES, tasks(*MAPS), batch_size=batch_size, devices=devices, **options
    )


def score(ridge, features):
    scores = scoring.score(READOUT, ridge.variables, features, STAGES, tasks(*MAPS), devices=ONE)
    return scores.spc.mean(axis=1)


@pytest.fixture(scope="module")
def fitted():
    return fit(with_coordinates())


def test_a_coordinate_among_the_features_is_found_and_noise_is_not(fitted):
    of_h, of_g = score(fitted, with_coordinates(9, seed=1))
    assert of_h > 0.9
    assert abs(of_g) < 0.3
    assert fitted.penalty[0] < fitted.penalty[1]


def test_a_coordinate_without_noise_is_read_out():
    train, test = with_coordinates(), with_coordinates(9, seed=1)
    for features in (train, test):
        features.stages["f2"][..., 2] = np.linspace(-5, 5, 4)
    assert score(fit(train), test)[0] > 0.99


def test_white_noise_says_nothing():
    assert np.abs(score(fit(make_features(60)), make_features(30, seed=1))).max() < 0.1


@pytest.mark.parametrize(("batch_size", "devices"), [(12, EIGHT), (23, EIGHT), (4, ONE)])
def test_neither_devices_nor_batches_matter(fitted, batch_size, devices):
    found = fit(with_coordinates(), batch_size, devices)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, fitted)
    np.testing.assert_array_equal(found.penalty, fitted.penalty)


def test_every_fifth_image_is_held_out(fitted):
    aligned = columns_of(READOUT, with_coordinates().stages)
    shift = np.asarray(aligned[:8]).mean(axis=(0, 1, 2))
    held_out = np.arange(23) % 5 == 0
    both = []
    for chosen in (~held_out, held_out):
        mask = jnp.asarray(chosen, jnp.float32)
        sums = add_images(READOUT, no_sums(READOUT, 5), aligned, jnp.asarray(shift), mask)
        whole = jax.tree.map(lambda a, b: np.float64(a) + np.float64(b), sums.value, sums.lost)
        both.append(moments(whole, int(chosen.sum())))
    targets = np.stack([position_map(name, READOUT.map_size) for name in MAPS])
    expected = fit_ridge(READOUT, *both, shift, targets)
    # Taps of an upsampled coordinate are collinear: weights move more than what they predict.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), fitted, expected)
    np.testing.assert_allclose(fitted.held_out, expected.held_out, atol=1e-5)
    np.testing.assert_allclose(fitted.error, expected.error, atol=1e-6)


def test_what_was_fitted_is_not_fitted_again(fitted, tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as saved:
        fit(with_coordinates(), checkpoints=saved)
    monkeypatch.setattr(Features, "rows", None)
    with Checkpoints(tmp_path) as saved:
        again = fit(with_coordinates(), checkpoints=saved)
    jax.tree.map(np.testing.assert_array_equal, again, fitted)


def test_one_image_is_refused():
    with pytest.raises(ValueError, match=r"--solver=ridge.*2 or more, found 1"):
        fit(make_features(1))


def test_a_gram_matrix_beyond_the_memory_is_refused():
    assert closed_form.check_room(13_248, ONE) >= 4 * closed_form.gram_bytes(13_248)
    with pytest.raises(ValueError, match=r"GB.*10,000,000 columns.*--stages.*--kernel_sizes"):
        closed_form.check_room(10_000_000, ONE)


def test_a_whole_run(tmp_path):
    settings = Settings(
        encoder=("resnet20",),
        weights=("random",),
        paddings=("zeros",),
        images="dead_leaves",
        test_images=("noise",),
        workdir=tmp_path,
        solver="ridge",
        stages=("f3",),
        maps=("H",),
        seeds=(3,),
        num_train=6,
        num_test=3,
        image_size=32,
        batch_size=4,
        devices=1,
    )
    said = []
    run(settings, title="Ridge", say=said.append)
    assert "1 on 1 encoders and 0 controls, in closed form" in said[0]
    assert "288 columns, 1 MB" in said[0]
    (row,) = (tmp_path / "results.csv").read_text().splitlines()[1:]
    assert row.startswith("resnet20,random,zeros,f3,H,1,3,0,ridge,3,noise,3,")
    assert "Penalties" in (tmp_path / "report.html").read_text()
    assert (
        not {"epochs", "learning_rate"}
        & json.loads((tmp_path / "config.json").read_text())["flags"].keys()
    )
    (kept,) = (tmp_path / "probes").iterdir()
    written = kept.stat().st_mtime_ns
    run(settings, title="Ridge", say=said.append)
    assert kept.stat().st_mtime_ns == written
    # Nothing is encoded again, of which the third line tells.
    assert said[4:] == [*said[:2], said[3]]
