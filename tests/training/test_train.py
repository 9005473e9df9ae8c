"""Training: it learns, and stops, starts and moves between devices without a trace."""

import gc
import resource
from unittest import mock

import jax
import numpy as np
import pytest
from colours import write_images

from posjax.encoders import create
from posjax.images import open_labelled
from posjax.runtime.checkpoints import Checkpoints
from posjax.runtime.compiler import compiler_options
from posjax.training.classification import Classification
from posjax.training.feeding import open_feed
from posjax.training.recipe import Recipe
from posjax.training.train import train

RECIPE = Recipe(
    epochs=3, batch_size=8, learning_rate=0.05, warmup_epochs=1.0, crop_margin=2, seed=3
)
STEPS = 3 * 6


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly():
    """Steps are few: optimising them takes longer than they do. Not every JAX takes options."""
    quick = {"xla_backend_optimization_level": 0} if compiler_options("cpu") else {}
    with mock.patch("posjax.runtime.devices.compiler_options", return_value=quick):
        yield


def objective_under(padding):
    """To tell two classes apart by a ResNet-20 with one block in each layer."""
    return Classification(create("resnet20", padding, num_classes=2).clone(blocks=(1, 1, 1)))


@pytest.fixture(scope="module")
def feeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    sets = (write_images(folder / "train", 26), write_images(folder / "test", 7, seed=1))
    opened = [open_labelled(str(path), size=10) for path in sets]
    return [open_feed(labelled.source, labelled.labels) for labelled in opened]


def run(
    feeds,
    folder,
    *,
    stop_at=None,
    padding="reflect",
    devices=1,
    recipe=RECIPE,
    asked_to_stop=None,
    **options,
):
    calls = iter(range(1, 10**6))
    # Each step asks once.
    by_count = lambda: stop_at is not None and next(calls) >= stop_at  # noqa: E731
    with Checkpoints(folder, **options) as checkpoints:
        return train(
            objective_under(padding),
            f"resnet20 {padding}",
            *feeds,
            recipe,
            normalize="cifar10",
            devices=jax.devices()[:devices],
            checkpoints=checkpoints,
            asked_to_stop=asked_to_stop or by_count,
        )


@pytest.fixture(scope="module")
def whole(feeds, tmp_path_factory):
    return run(feeds, tmp_path_factory.mktemp("whole"))


def assert_close(found, expected, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), found, expected)


def test_it_learns_and_counts_every_test_image_once(whole):
    assert whole.finished
    assert whole.step == STEPS
    assert whole.history["loss"][-1] < whole.history["loss"][0]
    assert whole.history["test_accuracy"][-1] > 0.9
    np.testing.assert_array_equal(whole.history["test_count"], 14)
    np.testing.assert_allclose(
        whole.history["test_accuracy"], whole.history["test_correct"] / 14, rtol=1e-6
    )


def test_stopped_and_started_again_it_ends_bit_for_bit_the_same(feeds, whole, tmp_path):
    steps = []
    for _ in range(30):
        trained = run(feeds, tmp_path, stop_at=7)
        steps.append(trained.step)
        if trained.finished:
            break
    assert trained.finished
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    jax.tree.map(np.testing.assert_array_equal, trained.variables, whole.variables)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(trained.history[name], values)


def test_a_finished_training_is_not_repeated(feeds, tmp_path):
    first = run(feeds, tmp_path)
    again = run(feeds, tmp_path, asked_to_stop=lambda: pytest.fail("a step was taken"))
    jax.tree.map(np.testing.assert_array_equal, again.variables, first.variables)


def test_it_goes_on_with_other_devices(feeds, tmp_path):
    run(feeds, tmp_path / "one", stop_at=3)
    before = run(feeds, tmp_path / "one", stop_at=1)
    # The same checkpoint, one step on with one device and with four.
    state = {}
    for devices in (1, 4):
        folder = tmp_path / f"copy{devices}"
        copy(tmp_path / "one", folder)
        state[devices] = run(feeds, folder, stop_at=1, devices=devices)
        assert state[devices].step == before.step + 1
    assert_close(state[4].variables, state[1].variables, 1e-4)


def copy(source, target):
    target.mkdir()
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(path.read_bytes())


def test_a_damaged_checkpoint_is_refused_and_left(feeds, tmp_path):
    run(feeds, tmp_path, stop_at=3)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 999]
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot be read .*delete it to start this training anew"):
        run(feeds, tmp_path)
    assert all(path.exists() for path in files)


# The threads of orbax tell of it too, each with a trace of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_checkpoint(feeds, whole, tmp_path):
    stopped = run(feeds, tmp_path, stop_at=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="checkpoint"):
            run(feeds, tmp_path, stop_at=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    trained = run(feeds, tmp_path)
    assert stopped.step < trained.step
    gc.collect()  # what orbax left open is to be found here, and in no other test
    jax.tree.map(np.testing.assert_array_equal, trained.variables, whole.variables)


def test_what_is_not_finite_is_told_and_not_saved(feeds, tmp_path):
    # With one step alone no loss comes after the update that breaks the weights.
    rates = {"learning_rate": 1e38, "weight_decay": 1e3}
    recipe = Recipe(epochs=1, batch_size=52, warmup_epochs=0.0, crop_margin=2, **rates)
    with pytest.raises(FloatingPointError, match="not finite, seen after step 1 with"):
        run(feeds, tmp_path, recipe=recipe)
    assert not list(tmp_path.iterdir())


def test_asked_to_stop_while_it_evaluates_it_evaluates_later(feeds, whole, tmp_path):
    # 6 steps of an epoch ask, then each of the batches of test images.
    stopped = run(feeds, tmp_path, stop_at=7)
    assert (stopped.step, stopped.finished) == (6, False)
    assert np.isnan(stopped.history["loss"]).all()
    again = run(feeds, tmp_path, stop_at=1)
    assert (again.step, again.finished) == (6, False)
    trained = run(feeds, tmp_path)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(trained.history[name], values)


@pytest.mark.parametrize(
    ("size", "devices", "message"),
    [(64, 1, "only 52 training images"), (6, 4, "no multiple of the 4 devices")],
)
def test_batches_that_cannot_be_are_refused(feeds, tmp_path, size, devices, message):
    recipe = Recipe(epochs=1, batch_size=size, warmup_epochs=0.0, crop_margin=2)
    with pytest.raises(ValueError, match=f"--batch_size={size}.*{message}"):
        run(feeds, tmp_path, recipe=recipe, devices=devices)
