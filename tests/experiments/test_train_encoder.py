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

SHORT = (
    *("--image_size=8", "--batch_size=8", "--crop_margin=2", "--epochs=3"),
    *("--learning_rate=0.05", "--checkpoint_seconds=0", "--paddings=reflect", "--compile_cache="),
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
    return subprocess.Popen(
        [*command, *SHORT, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | QUICK | {"JAX_PLATFORMS": "cpu"},
    )


def steps_of(workdir):
    folder = workdir / "resnet20-reflect-seed0" / "checkpoints"
    found = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []
    return max(found, default=0)


def wait_for(workdir, step, process):
    while steps_of(workdir) < step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    out, err = (process := start(images, workdir)).communicate()
    assert process.returncode == 0, err
    return workdir, out


def test_it_leaves_weights_curves_and_accuracies(whole):
    workdir, out = whole
    assert "48 of " in out
    assert "resnet20 reflect seed 0" in out
    folder = workdir / "resnet20-reflect-seed0"
    loaded = encoders.load_with_info("resnet20", folder / "weights.safetensors")
    assert loaded.normalize == "cifar10"
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,loss,accuracy,learning_rate,test_loss,test_accuracy")
    assert len(rows) == 4
    assert list((folder / "tensorboard").iterdir())
    config = json.loads((workdir / "config.json").read_text())
    assert config["classes"] == ["blue", "red"]
    assert config["flags"]["learning_rate"] == 0.05


def test_killed_at_random_and_started_again_it_ends_bit_for_bit_the_same(images, whole, tmp_path):
    workdir, rng = tmp_path / "run", np.random.default_rng(0)
    for goal in rng.integers(3, 15, 1):
        process = start(images, workdir)
        wait_for(workdir, int(goal), process)
        process.kill()
        process.communicate()
    _, err = (process := start(images, workdir)).communicate()
    assert process.returncode == 0, err
    name = "resnet20-reflect-seed0/weights.safetensors"
    found, expected = load_file(workdir / name), load_file(whole[0] / name)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_sigterm_leaves_a_checkpoint_and_ends_well(images, tmp_path):
    workdir = tmp_path / "run"
    process = start(images, workdir)
    wait_for(workdir, 3, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert f"is written after step {steps_of(workdir)}; start again to go on" in err
    assert not list(workdir.glob("*/weights.safetensors"))


def test_it_begins_with_the_weights_that_are_given(images, whole, tmp_path):
    name = "resnet20-{padding}-seed0/weights.safetensors"
    still = ["--epochs=1", "--learning_rate=1e-12"]
    process = start(images, tmp_path / "run", f"--weights={whole[0]}/{name}", *still)
    _, err = process.communicate()
    assert process.returncode == 0, err
    name = name.replace("{padding}", "reflect")
    found, expected = load_file(tmp_path / "run" / name), load_file(whole[0] / name)
    for key in ("conv1.weight", "layer3.2.conv2.weight", "linear.weight"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--images=", "--epochs=3"], "--images and --test_images are needed, once each"),
        (["--maps=H"], "--maps means nothing to the training of an encoder"),
        (["--weights=nowhere.safetensors"], "--weights: there is no file nowhere.safetensors"),
        (["--weights=random,imagenet"], "--weights: one at a time, found 'random,imagenet'"),
        (["--batch_size=49"], "--batch_size=49: there are only 48 training images"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(images, tmp_path, flags, message):
    process = start(images, tmp_path / "run", *flags)
    _, err = process.communicate()
    assert process.returncode == 1
    assert message in err
    assert err.count("\n") <= 2
    assert not (tmp_path / "run").exists()


def test_other_flags_on_the_same_workdir_are_refused(images, whole):
    process = start(images, whole[0], "--learning_rate=0.1")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "--learning_rate was 0.05 and is 0.1" in err
