"""Ridge: known answers, the same on any devices and for any batches."""

import functools

import jax
import numpy as np
import pytest

from posjax import runtime
from posjax.features import Features
from posjax.fitting import Readouts, Ridge, closed_form, score
from posjax.fitting.control_targets import task_maps
from posjax.probes import Readout
from posjax.probes.controls import Task
from posjax.probes.moments import add_images, moments, no_sums
from posjax.probes.ridge import fit_ridge

READOUT = Readout(feature_size=(8, 8), map_size=(16, 16), linear=True)
STAGES, MAPS = ("f1", "f2"), ("H", "G")
ONE, EIGHT = runtime.local_devices(1), runtime.local_devices(8)


def make_features(n=23, seed=0):
    """White noise, and with it nothing else."""
    draw = np.random.default_rng(seed).normal
    return Features(
        {
            "f1": draw(size=(n, 8, 8, 2)).astype(np.float32),
            "f2": draw(size=(n, 4, 4, 3)).astype(np.float32),
        },
        n,
    )


def with_coordinates(n=23, seed=0):
    """Features one of which grows from left to right, under noise of half its spread."""
    stages = make_features(n, seed).stages
    stages["f2"][..., 1] = np.linspace(-1, 1, 4) + 0.3 * stages["f2"][..., 1]
    return Features(stages, n)


READOUTS = Readouts(READOUT, STAGES, tuple(map(Task, MAPS)), (None, None))


def fit(features, batch_size=6, devices=ONE):
    return Ridge(batch_size).fit(READOUTS, features, devices)


@pytest.fixture(scope="module")
def fitted():
    return fit(with_coordinates())


def test_a_coordinate_among_the_features_is_found_and_noise_is_not(fitted):
    test = with_coordinates(9, seed=1)
    of_h, of_g = score(READOUTS, fitted.variables, test, ONE).spc.mean(axis=1)
    assert of_h > 0.9
    assert abs(of_g) < 0.3
    assert fitted.path.chosen[0] < fitted.path.chosen[1]


@pytest.mark.parametrize(("batch_size", "devices"), [(12, EIGHT), (4, ONE)])
def test_neither_devices_nor_batches_matter(fitted, batch_size, devices):
    found = fit(with_coordinates(), batch_size, devices)
    for a, b in ((found.variables, fitted.variables), (found.losses, fitted.losses)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), a, b)
    np.testing.assert_array_equal(found.path.chosen, fitted.path.chosen)


def test_every_fifth_image_is_held_out(fitted):
    stages = dict(with_coordinates().stages)
    shift = np.asarray(READOUT.concatenated(stages)[:8]).mean(axis=(0, 1, 2))
    held_out = np.arange(23) % 5 == 0
    add = jax.jit(functools.partial(add_images, READOUT))
    both = []
    for chosen in (~held_out, held_out):
        sums = add(no_sums(READOUT, shift), stages, shift, chosen.astype(np.float32))
        both.append(moments(sums, int(chosen.sum())))
    expected = fit_ridge(READOUT, *both, shift, task_maps(READOUT, READOUTS.tasks))
    # Offsets of an upsampled coordinate are collinear: weights move more than their predictions.
    pairs = (fitted.variables, expected.variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), *pairs)
    np.testing.assert_allclose(fitted.path.held_out, expected.path.held_out, atol=1e-5)
    np.testing.assert_allclose(fitted.losses[0], expected.error, atol=1e-6)


def test_one_image_is_refused():
    with pytest.raises(ValueError, match=r"solver=ridge.*2 or more, found 1"):
        fit(make_features(1))


def test_a_gram_matrix_beyond_the_memory_is_refused():
    assert closed_form.check_room(13_248, ONE) >= 4 * closed_form.gram_bytes(13_248)
    with pytest.raises(ValueError, match=r"10,000,000 columns.*GB.*stages.*kernel_sizes"):
        closed_form.check_room(10_000_000, ONE)
