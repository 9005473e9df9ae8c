"""`experiments.train_encoder` as its users start it, kill it and read what it leaves."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from colours import write_images
from programs import QUICK, ROOT, run
from safetensors.numpy import load_file

from posjax import encoders

NAME = "resnet20"
SHORT = (
    *(f"--encoder={NAME}", "--image_size=8", "--batch_size=8", "--crop_margin=2", "--epochs=2"),
    *("--learning_rate=0.05", "--paddings=reflect", "--devices=1"),
)
OFTEN = "--checkpoint_seconds=0"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "train", 16, side=8)
    write_images(folder / "test", 5, side=8, seed=1)
    return folder


def flags(images):
    return (f"--images={images / 'train'}", f"--test_images={images / 'test'}", *SHORT)


def train(images, workdir, *others, code=0):
    """What the program printed, on both streams."""
    done = run("train_encoder", workdir, *flags(images), *others)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def folder_of(workdir):
    return workdir / f"{NAME}-reflect-seed0"


def steps_of(workdir):
    """The step of the newest checkpoint, or 0."""
    folder = folder_of(workdir) / "checkpoints"
    steps = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []
    return max(steps, default=0)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, train(images, workdir)[0]


def test_it_leaves_weights_curves_and_accuracies(whole):
    workdir, out = whole
    assert "32 of " in out
    assert f"{NAME} reflect seed 0" in out
    folder = folder_of(workdir)
    assert encoders.load_with_info(NAME, folder / "weights.safetensors").normalize == "cifar10"
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,loss,accuracy,learning_rate,test_loss,test_accuracy")
    assert len(rows) == 3
    assert list((folder / "tensorboard").iterdir())
    config = json.loads((workdir / "config.json").read_text())
    assert config["classes"] == ["blue", "red"]
    assert config["flags"]["learning_rate"] == 0.05


def killed(images, workdir):
    """A training in a process of its own, killed behind its second checkpoint."""
    command = [sys.executable, "-m", "experiments.train_encoder", f"--workdir={workdir}"]
    environment = os.environ | QUICK | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    process = subprocess.Popen([*command, *flags(images), OFTEN], cwd=ROOT, env=environment)
    while steps_of(workdir) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()


@pytest.fixture
def sigterm_behind_the_next_checkpoint():
    """Begins to send this process SIGTERM behind the next checkpoint in a workdir."""
    late = threading.Event()
    # Where the program has not asked for it, or has ended, it does nothing.
    before = signal.signal(signal.SIGTERM, lambda *_: None)

    def watch(workdir, step):
        while not late.wait(0.005):
            if steps_of(workdir) > step:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    yield lambda workdir: threading.Thread(target=watch, args=(workdir, steps_of(workdir))).start()
    late.set()
    signal.signal(signal.SIGTERM, before)


def test_killed_stopped_and_started_again_it_ends_bit_for_bit_the_same(
    images, whole, tmp_path, sigterm_behind_the_next_checkpoint
):
    workdir = tmp_path / "run"
    killed(images, workdir)
    sigterm_behind_the_next_checkpoint(workdir)
    _, err = train(images, workdir, OFTEN)
    assert "goes on after step" in err
    assert f"is written after step {steps_of(workdir)}; start again to go on" in err
    assert not list(workdir.glob("*/weights.safetensors"))
    train(images, workdir)
    actual, expected = (
        load_file(folder_of(w) / "weights.safetensors") for w in (workdir, whole[0])
    )
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


def test_bad_flags_are_refused_before_anything_is_written(images, tmp_path):
    _, err = train(images, tmp_path / "run", "--batch_size=33", code=1)
    assert "--batch_size=33: there are only 32 training images" in err
    assert err.count("\n") <= 2
    assert not (tmp_path / "run").exists()


def test_other_flags_on_the_same_workdir_are_refused(images, whole):
    _, err = train(images, whole[0], "--learning_rate=0.1", code=1)
    assert "learning_rate was 0.05 and is 0.1" in err
