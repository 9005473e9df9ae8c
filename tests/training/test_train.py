"""Training: it learns, and stops, starts and moves between devices without a trace."""

import dataclasses
import gc
import itertools
import resource
import shutil
from unittest import mock

import jax
import numpy as np
import pytest
from colours import write_images

from posjax.encoders import create
from posjax.images import open_labelled
from posjax.runtime import Checkpoints
from posjax.runtime.compiler import compiler_options
from posjax.training.classification import CrossEntropy
from posjax.training.feeding import Dataset, open_feed
from posjax.training.job import Job
from posjax.training.settings import OptimizerSettings
from posjax.training.train import train

SETTINGS = OptimizerSettings(
    epochs=3, batch_size=8, learning_rate=0.05, warmup_epochs=1.0, crop_margin=2
)
STEPS = 3 * 6


@pytest.fixture(scope="module", autouse=True)
def devices_compile_quickly():
    """Steps are few: optimising them takes longer than they do. Not every JAX takes options."""
    quick = {"xla_backend_optimization_level": 0} if compiler_options("cpu") else {}
    with mock.patch("posjax.runtime.devices.compiler_options", return_value=quick):
        yield


@pytest.fixture(scope="module")
def feeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = (write_images(folder / "train", 26), write_images(folder / "test", 7, seed=1))
    labelled = [open_labelled(str(path), size=10) for path in paths]
    return [open_feed(Dataset(one.source, one.labels)) for one in labelled]


@dataclasses.dataclass(frozen=True)
class Logs:
    """Checkpoints alone."""

    checkpoints: Checkpoints

    def log(self, epoch, history):
        """Keeps nothing."""


def run(feeds, folder, *, stop_at=None, devices=1, should_stop=None, settings=SETTINGS):
    """Trains a ResNet-20 with one block in each layer, until it is asked for the n-th time."""
    calls = itertools.count(1)
    network = create("resnet20", "reflect", num_classes=2).clone(blocks=(1, 1, 1))
    local = tuple(jax.devices()[:devices])
    job = Job("resnet20", CrossEntropy(network), settings, 3, "cifar10", local)
    by_count = lambda: stop_at is not None and next(calls) >= stop_at  # noqa: E731
    with Checkpoints(folder) as checkpoints:
        return train(job, *feeds, Logs(checkpoints), should_stop=should_stop or by_count)


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(feeds, whole_folder):
    return run(feeds, whole_folder)


@pytest.fixture(scope="module")
def stopped(feeds, tmp_path_factory):
    """A folder with a checkpoint after three steps; to be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    assert run(feeds, folder, stop_at=3).step == 3
    return folder


def copied(stopped, target):
    return shutil.copytree(stopped, target / "copy")


def assert_same(trained, whole):
    assert trained.finished
    jax.tree.map(np.testing.assert_array_equal, trained.variables, whole.variables)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(trained.history[name], values)


def test_it_learns_and_counts_every_test_image_once(whole):
    history = whole.history
    assert (whole.step, whole.finished) == (STEPS, True)
    assert history["loss"][-1] < history["loss"][0]
    assert history["test_accuracy"][-1] > 0.9
    np.testing.assert_array_equal(history["test_count"], 14)
    np.testing.assert_allclose(history["test_accuracy"], history["test_correct"] / 14, rtol=1e-6)


def test_stopped_and_started_again_it_ends_bit_for_bit_the_same(feeds, whole, tmp_path):
    steps = []
    while not steps or not trained.finished:
        trained = run(feeds, tmp_path, stop_at=7)
        steps.append(trained.step)
        assert len(steps) < 30
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    assert_same(trained, whole)


def test_a_finished_training_is_not_repeated(feeds, whole, whole_folder):
    again = run(feeds, whole_folder, should_stop=lambda: pytest.fail("a step was taken"))
    assert_same(again, whole)


def test_it_goes_on_with_other_devices(feeds, stopped, tmp_path):
    """The same checkpoint, one step on with one device and with four."""
    one, four = (
        run(feeds, copied(stopped, tmp_path / str(devices)), stop_at=1, devices=devices)
        for devices in (1, 4)
    )
    assert one.step == four.step == 4
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), four.variables, one.variables
    )


def test_a_damaged_checkpoint_is_refused_and_left(feeds, stopped, tmp_path):
    folder = copied(stopped, tmp_path)
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 999]
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot be read .*delete it to start this training"):
        run(feeds, folder)
    assert all(path.exists() for path in files)


# The threads of orbax report it too, each with a trace.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_checkpoint(feeds, whole, stopped, tmp_path):
    folder = copied(stopped, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="checkpoint"):
            run(feeds, folder, stop_at=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    trained = run(feeds, folder)
    gc.collect()  # what orbax left open shows here, and in no other test
    assert_same(trained, whole)


def test_what_is_not_finite_is_reported_and_not_saved(feeds, tmp_path):
    # With one step alone no loss comes after the update that breaks the weights.
    values = {"epochs": 1, "batch_size": 52, "warmup_epochs": 0.0, "crop_margin": 2}
    settings = OptimizerSettings(**values, learning_rate=1e38, weight_decay=1e3)
    with pytest.raises(FloatingPointError, match="not finite, seen after step 1 with"):
        run(feeds, tmp_path, settings=settings)
    assert not list(tmp_path.iterdir())


def test_stopped_while_it_evaluates_it_evaluates_later(feeds, whole, tmp_path):
    # 6 steps of an epoch ask, then each of the batches of test images.
    for stop_at in (7, 1):
        early = run(feeds, tmp_path, stop_at=stop_at)
        assert (early.step, early.finished) == (6, False)
        assert np.isnan(early.history["loss"]).all()
    assert_same(run(feeds, tmp_path), whole)


@pytest.mark.parametrize(
    ("size", "devices", "message"),
    [(64, 1, "only 52 training images"), (6, 4, "no multiple of the 4 devices")],
)
def test_batches_that_cannot_be_are_refused(feeds, tmp_path, size, devices, message):
    settings = dataclasses.replace(SETTINGS, batch_size=size)
    with pytest.raises(ValueError, match=f"^batch_size={size}.*{message}"):
        run(feeds, tmp_path, settings=settings, devices=devices)
