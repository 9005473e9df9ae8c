"""`experiments.train_encoder` as its users start it, kill it and read what it leaves."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from colours import write_images
from programs import QUICK, ROOT
from safetensors.numpy import load_file

from posjax import encoders

NAME = "resnet20"
SHORT = (
    *(f"--encoder={NAME}", "--image_size=8", "--batch_size=8", "--crop_margin=2", "--epochs=3"),
    *("--learning_rate=0.05", "--checkpoint_seconds=0", "--paddings=reflect"),
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "train", 24, side=8)
    write_images(folder / "test", 5, side=8, seed=1)
    return folder


def start(images, workdir, *flags):
    command = [sys.executable, "-m", "experiments.train_encoder", f"--workdir={workdir}"]
    command += [f"--images={images / 'train'}", f"--test_images={images / 'test'}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = os.environ | QUICK | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([*command, *SHORT, *flags], cwd=ROOT, env=env, **pipes)


def finish(process, code=0):
    """What a program printed, on both streams."""
    out, err = process.communicate()
    assert process.returncode == code, err
    return out, err


def folder_of(workdir):
    return workdir / f"{NAME}-reflect-seed0"


def steps_of(workdir):
    """The step of the newest checkpoint, or 0."""
    folder = folder_of(workdir) / "checkpoints"
    steps = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []
    return max(steps, default=0)


def wait_for(workdir, step, process):
    while steps_of(workdir) < step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, finish(start(images, workdir))[0]


def test_it_leaves_weights_curves_and_accuracies(whole):
    workdir, out = whole
    assert "48 of " in out
    assert f"{NAME} reflect seed 0" in out
    folder = folder_of(workdir)
    assert encoders.load_with_info(NAME, folder / "weights.safetensors").normalize == "cifar10"
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,loss,accuracy,learning_rate,test_loss,test_accuracy")
    assert len(rows) == 4
    assert list((folder / "tensorboard").iterdir())
    config = json.loads((workdir / "config.json").read_text())
    assert config["classes"] == ["blue", "red"]
    assert config["flags"]["learning_rate"] == 0.05


def test_killed_stopped_and_started_again_it_ends_bit_for_bit_the_same(images, whole, tmp_path):
    workdir = tmp_path / "run"
    process = start(images, workdir)
    wait_for(workdir, int(np.random.default_rng(0).integers(3, 15)), process)
    process.kill()
    process.communicate()
    process = start(images, workdir)
    wait_for(workdir, steps_of(workdir) + 1, process)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process)
    assert "goes on after step" in err
    assert f"is written after step {steps_of(workdir)}; start again to go on" in err
    assert not list(workdir.glob("*/weights.safetensors"))
    finish(start(images, workdir))
    actual, expected = (
        load_file(folder_of(w) / "weights.safetensors") for w in (workdir, whole[0])
    )
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


def test_bad_flags_are_refused_before_anything_is_written(images, tmp_path):
    _, err = finish(start(images, tmp_path / "run", "--batch_size=49"), code=1)
    assert "--batch_size=49: there are only 48 training images" in err
    assert err.count("\n") <= 2
    assert not (tmp_path / "run").exists()


def test_other_flags_on_the_same_workdir_are_refused(images, whole):
    _, err = finish(start(images, whole[0], "--learning_rate=0.1"), code=1)
    assert "learning_rate was 0.05 and is 0.1" in err
