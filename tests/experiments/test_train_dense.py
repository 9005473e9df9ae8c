"""`experiments.train_dense` and `crop_shift`, on discs whose place tells, or does not."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from programs import ROOT, rows, start
from safetensors import safe_open
from safetensors.numpy import load_file, save
from shapes import SIDE, write_shapes

from posjax import encoders

# Trainings are long enough to be worth some optimising.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=1"}
SHORT = (
    *(f"--image_size={SIDE}", "--crop_margin=0", "--batch_size=16", "--num_train=96"),
    *("--epochs=10", "--learning_rate=0.1", "--evaluate_every=5", "--paddings=zeros,circular"),
)


def program(name, *flags, code=0):
    """Runs a program to its end; what it printed, on standard output or as an error."""
    command = [sys.executable, "-m", f"experiments.{name}", *flags]
    env = os.environ | QUICK | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def trained(folder, *flags, by_place):
    images = write_shapes(folder / "shapes", 128, by_place=by_place)
    where = (f"--images={images}/images", f"--masks={images}/masks", f"--workdir={folder}/run")
    return folder, program("train_dense", *where, *SHORT, *flags)


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("placed"), by_place=True)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("coloured"), "--epochs=7", by_place=False)


def figures(folder, name):
    table = rows(folder / "run" / "saliency.csv")
    return {
        r["padding"]: float(r["value"]) for r in table if (r["figure"], r["minus"]) == (name, "")
    }


def test_where_place_tells_what_is_salient_only_padding_that_tells_place_finds_it(placed):
    f_measure = figures(placed[0], "f_max")
    assert f_measure["zeros"] > 0.85
    # Of two alike discs it can only find both: half of that is right.
    assert f_measure["circular"] < 1.3 * 0.5 / (0.3 * 0.5 + 1) + 0.02
    assert f_measure["mean mask"] < 0.4


def test_where_place_tells_nothing_padding_does_not_matter(coloured):
    f_measure = figures(coloured[0], "f_max")
    assert min(f_measure["zeros"], f_measure["circular"]) > 0.85
    assert f_measure["mean mask"] < 0.4


def test_it_leaves_an_encoder_that_is_probed_like_any_other(placed):
    folder, out = placed
    assert "96 of " in out
    assert "32 of " in out
    weights = folder / "run" / "vgg8_bn_quarter-zeros-seed0" / "weights.safetensors"
    assert encoders.load_with_info("vgg8_bn_quarter", weights).normalize == "imagenet"
    pattern = f"--weights={folder}/run/{{encoder}}-{{padding}}-seed0/weights.safetensors"
    flags = ("--encoder=vgg8_bn_quarter", "--paddings=circular,zeros", "--maps=H")
    done = start("existence", folder / "probed", *flags, pattern)
    assert done.returncode == 0, done.stderr
    assert {row["padding"] for row in rows(folder / "probed" / "results.csv")} == {
        "zeros",
        "circular",
    }


def crops(folder, *flags):
    networks = f"--networks={folder}/run/*/network.safetensors"
    where = (f"--images={folder}/shapes/images", f"--workdir={folder}/crops")
    program("crop_shift", networks, *where, *flags)
    with Image.open(folder / "crops" / "crop_shift.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    assert json.loads((folder / "crops" / "config.json").read_text())["weight_digests"]
    return {
        (row["padding"], row["figure"]): [float(row[name]) for name in ("value", "low", "high")]
        for row in rows(folder / "crops" / "crop_shift.csv")
    }


def test_crops_move_what_is_salient_by_its_place(placed):
    ways = crops(placed[0], "--num_train=96")
    value, low, high = ways["zeros", "mass"]
    # A disc below the middle that comes above it becomes salient.
    assert 0.02 < low < value < high < 1
    assert abs(ways["circular", "mass"][0]) < 0.05


def test_crops_do_not_move_what_is_salient_by_its_colour(coloured):
    ways = crops(coloured[0], "--num_train=96")
    assert max(abs(ways[padding, "mass"][0]) for padding in ("zeros", "circular")) < 0.02
    assert max(abs(ways[padding, "peak"][0]) for padding in ("zeros", "circular")) < 0.1


def test_a_network_that_predicts_no_number_is_refused(coloured):
    folder = coloured[0]
    path = folder / "run" / "vgg8_bn_quarter-zeros-seed0" / "network.safetensors"
    with safe_open(path, "numpy") as file:
        about = file.metadata()
    arrays = load_file(path)
    broken = folder / "broken.safetensors"
    broken.write_bytes(save({name: a * np.float32("nan") for name, a in arrays.items()}, about))
    where = (f"--images={folder}/shapes/images", f"--workdir={folder}/none", "--num_train=127")
    err = program("crop_shift", f"--networks={broken}", *where, code=1)
    assert "--networks: vgg8_bn_quarter zeros seed 0 predicts NaN" in err


def test_a_network_without_padding_goes_the_same_way(placed):
    folder = placed[0]
    bare = folder / "bare"
    bare.mkdir()
    (bare / "shapes").symlink_to(folder / "shapes")
    flags = (f"--images={bare}/shapes/images", f"--masks={bare}/shapes/masks")
    short = ("--paddings=valid", "--epochs=1", "--num_train=16", "--num_test=4", "--batch_size=8")
    program("train_dense", *flags, f"--workdir={bare}/run", "--image_size=80", *short)
    ways = crops(bare, "--num_train=16", "--num_test=3")
    assert set(ways) == {("valid", "peak"), ("valid", "mass")}


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("train_dense", ["--masks=x"], "--images is needed"),
        ("train_dense", ["--images=no", "--num_train=3"], "--images: no folder 'no'"),
        ("crop_shift", ["--images=x", "--networks=none/*"], "--networks=none/*: no such file"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(tmp_path, name, flags, message):
    err = program(name, *flags, f"--workdir={tmp_path / 'run'}", code=1)
    assert message in err
    assert err.count("\n") <= 2
    assert not (tmp_path / "run").exists()
