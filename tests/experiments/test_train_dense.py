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


def program(name, *flags):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | QUICK | {"JAX_PLATFORMS": "cpu"},
    )


def trained(folder, *flags, by_place):
    images = write_shapes(folder / "shapes", 128, by_place=by_place)
    where = (f"--images={images}/images", f"--masks={images}/masks", f"--workdir={folder}/run")
    done = program("train_dense", *where, *SHORT, *flags)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("placed"), by_place=True)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("coloured"), "--epochs=7", by_place=False)


def figures(folder, name):
    found = rows(folder / "run" / "saliency.csv")
    return {
        r["padding"]: float(r["value"]) for r in found if (r["figure"], r["minus"]) == (name, "")
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
    done = program("crop_shift", networks, *where, *flags)
    assert done.returncode == 0, done.stderr
    found = rows(folder / "crops" / "crop_shift.csv")
    with Image.open(folder / "crops" / "crop_shift.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    assert json.loads((folder / "crops" / "config.json").read_text())["weight_digests"]
    return {
        (row["padding"], row["figure"]): [float(row[name]) for name in ("value", "low", "high")]
        for row in found
    }


def test_crops_move_what_is_salient_by_its_place(placed):
    found = crops(placed[0], "--num_train=96")
    value, low, high = found["zeros", "mass"]
    # A disc below the middle that comes above it becomes salient.
    assert 0.02 < low < value < high < 1
    assert abs(found["circular", "mass"][0]) < 0.05


def test_crops_do_not_move_what_is_salient_by_its_colour(coloured):
    found = crops(coloured[0], "--num_train=96")
    assert max(abs(found[padding, "mass"][0]) for padding in ("zeros", "circular")) < 0.02
    assert max(abs(found[padding, "peak"][0]) for padding in ("zeros", "circular")) < 0.1


def test_a_network_that_predicts_no_number_is_refused(coloured):
    folder = coloured[0]
    path = folder / "run" / "vgg8_bn_quarter-zeros-seed0" / "network.safetensors"
    with safe_open(path, "numpy") as file:
        about = file.metadata()
    arrays = load_file(path)
    broken = folder / "broken.safetensors"
    broken.write_bytes(save({name: a * np.float32("nan") for name, a in arrays.items()}, about))
    where = (f"--images={folder}/shapes/images", f"--workdir={folder}/none", "--num_train=127")
    done = program("crop_shift", f"--networks={broken}", *where)
    assert done.returncode != 0
    assert "--networks: vgg8_bn_quarter zeros seed 0 predicts NaN" in done.stderr


def test_a_network_without_padding_goes_the_same_way(placed):
    folder = placed[0]
    bare = folder / "bare"
    bare.mkdir()
    (bare / "shapes").symlink_to(folder / "shapes")
    flags = (f"--images={bare}/shapes/images", f"--masks={bare}/shapes/masks")
    short = ("--paddings=valid", "--epochs=1", "--num_train=16", "--num_test=4", "--batch_size=8")
    done = program("train_dense", *flags, f"--workdir={bare}/run", "--image_size=80", *short)
    assert done.returncode == 0, done.stderr
    found = crops(bare, "--num_train=16", "--num_test=3")
    assert set(found) == {("valid", "peak"), ("valid", "mass")}


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("train_dense", ["--masks=x"], "--images is needed"),
        ("train_dense", ["--images=x", "--masks=x"], "--num_train is needed without --test_images"),
        ("train_dense", ["--images=no", "--num_train=3"], "--images: no folder 'no'"),
        (
            "train_dense",
            ["--images=x", "--masks=x", "--num_train=3", "--test_masks=x"],
            "--test_masks needs --test_images",
        ),
        ("train_dense", ["--images=noise", "--masks=x", "--num_train=3"], "no folder 'noise'"),
        ("crop_shift", ["--images=x"], "--networks is needed"),
        ("crop_shift", ["--images=x", "--networks=none/*"], "--networks=none/*: no such file"),
        ("crop_shift", ["--images=x", "--maps=H"], "--maps means nothing to the saliency of crops"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(tmp_path, name, flags, message):
    done = program(name, *flags, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") <= 2
    assert not (tmp_path / "run").exists()
