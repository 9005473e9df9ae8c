"""Training: it learns, and stops, starts and moves between devices without a trace."""

import dataclasses
import gc
import itertools
import resource
import shutil
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
import pytest
from colours import write_images

from posjax.encoders import Padding
from posjax.layers import BatchNorm
from posjax.runtime.compiler import compiler_options
from posjax.training import Classification, OptimizerSettings, TrainingSettings
from posjax.training.classification import CrossEntropy
from posjax.training.task import Job
from posjax.training.train import train

# Six steps an epoch, and two batches of test images.
SETTINGS = OptimizerSettings(
    epochs=2, batch_size=8, learning_rate=0.05, warmup_epochs=0.5, crop_margin=2
)


class Network(nn.Module):
    """A convolution with BatchNorm, and the scores of two classes."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(8, (3, 3))(images)
        x = nn.relu(BatchNorm()(x, train=train, axis_name=self.axis_name))
        return nn.Dense(2)(x.mean((1, 2)))

    def logits(self, images, train=False):
        return self(images, train)


class Small(Classification):
    """Training of a small network."""

    def objective(self, padding):
        return CrossEntropy(Network())


@pytest.fixture(scope="module", autouse=True)
def devices_compile_quickly():
    """Steps are few: optimising them takes longer than they do. Not every JAX takes options."""
    quick = {"xla_backend_optimization_level": 0} if compiler_options("cpu") else {}
    with mock.patch("posjax.runtime.devices.compiler_options", return_value=quick):
        yield


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = (write_images(folder / "train", 26), write_images(folder / "test", 7, seed=1))
    train, test = map(str, paths)
    return Small.open(
        TrainingSettings(images=train, test_images=test, image_size=8, optimizer=SETTINGS)
    )


def run(task, workdir, *, stop_at=None, devices=1, should_stop=None, optimizer=SETTINGS):
    """Trains until it is asked for the n-th time whether to stop."""
    settings = dataclasses.replace(task.settings, workdir=workdir, optimizer=optimizer)
    changed = dataclasses.replace(task, settings=settings)
    job = Job(changed, Padding("reflect"), 3, tuple(jax.devices()[:devices]))
    calls = itertools.count(1)
    by_count = lambda: stop_at is not None and next(calls) >= stop_at  # noqa: E731
    return train(job, should_stop or by_count)


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """A workdir and the training that it holds."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(task, folder)


@pytest.fixture(scope="module")
def stopped(task, tmp_path_factory):
    """A workdir with a checkpoint in the second epoch; to be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(InterruptedError, match=r"written after step 9$"):
        run(task, folder, stop_at=6 + 2 + 3)
    return folder


def copied(stopped, target):
    return shutil.copytree(stopped, target / "copy")


def assert_same(trained, whole, atol=0.0):
    for actual, expected in zip(trained, whole[1], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), actual, expected)


def test_it_learns_and_counts_every_test_image_once(whole):
    folder, (_, history) = whole
    assert history["loss"][-1] < history["loss"][0]
    assert history["test_accuracy"][-1] > 0.9
    np.testing.assert_array_equal(history["test_count"], 14)
    np.testing.assert_allclose(history["test_accuracy"], history["test_correct"] / 14, rtol=1e-6)
    (path,) = folder.glob("*/metrics.csv")
    names, *rows = (line.split(",") for line in path.read_text().splitlines())
    assert names == ["epoch", *history]
    expected = np.column_stack([[1, 2], *history.values()])
    np.testing.assert_allclose(np.array(rows, float), expected, rtol=1e-5)


def test_stopped_and_started_again_it_ends_bit_for_bit_the_same(task, whole, tmp_path):
    # In the first epoch, while it evaluates, twice, and in the second epoch.
    for stop_at, step in ((4, 4), (3, 6), (1, 6), (4, 8)):
        with pytest.raises(InterruptedError, match=f"seed 3, is written after step {step}$"):
            run(task, tmp_path, stop_at=stop_at)
    assert_same(run(task, tmp_path), whole)


def test_a_finished_training_is_not_repeated(task, whole):
    again = run(task, whole[0], should_stop=lambda: pytest.fail("a step was taken"))
    assert_same(again, whole)


def test_it_goes_on_with_other_devices(task, whole, stopped, tmp_path):
    trained = run(task, copied(stopped, tmp_path), devices=4)
    assert_same(trained, whole, atol=1e-3)


def test_a_damaged_checkpoint_is_refused_and_left(task, stopped, tmp_path):
    folder = copied(stopped, tmp_path)
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 999]
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot be read .*delete it to start this training"):
        run(task, folder)
    assert all(path.exists() for path in files)


# The threads of orbax report it too, each with a trace.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_checkpoint(task, whole, stopped, tmp_path):
    folder = copied(stopped, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="checkpoint"):
            run(task, folder, stop_at=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    trained = run(task, folder)
    gc.collect()  # what orbax left open shows here, and in no other test
    assert_same(trained, whole)


def test_what_is_not_finite_is_reported_and_not_saved(task, tmp_path):
    # With one step alone no loss comes after the update that breaks the weights.
    values = {"epochs": 1, "batch_size": 52, "warmup_epochs": 0.0, "crop_margin": 2}
    optimizer = OptimizerSettings(**values, learning_rate=1e38, weight_decay=1e3)
    with pytest.raises(FloatingPointError, match="not finite, seen after step 1 with"):
        run(task, tmp_path, optimizer=optimizer)
    assert not [path for path in tmp_path.glob("*/checkpoints/*") if path.is_dir()]
