"""`experiments.train_dense` and `crop_shift`, on discs whose place tells, or does not."""

import dataclasses
import json
import re
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image
from programs import rows
from programs import run as run_program
from safetensors import safe_open
from safetensors.numpy import load_file, save
from shapes import SIDE, write_shapes

from posjax import encoders
from posjax.runtime.compiler import compiler_options
from posjax.training import OptimizerSettings, Saliency, SaliencySettings, run
from posjax.training.saliency import crop_shift
from posjax.training.saliency.saved import load_network

SHIFTS = {"num_train": 64, "devices": 1}


def trained(folder, *, by_place):
    """A folder with images, masks and the networks of two padding modes."""
    images = write_shapes(folder / "shapes", 96, by_place=by_place)
    settings = SaliencySettings(
        encoder="vgg8_bn_quarter",
        normalize="imagenet",
        images=f"{images}/images",
        masks=f"{images}/masks",
        num_train=64,
        image_size=SIDE,
        paddings=("zeros", "circular"),
        evaluate_every=6,
        optimizer=OptimizerSettings(epochs=6, batch_size=8, crop_margin=0),
        workdir=folder / "run",
        devices=1,
    )
    # It is long enough to be worth some optimising. Not every JAX takes options.
    quick = {"xla_backend_optimization_level": 1} if compiler_options("cpu") else {}
    with mock.patch("posjax.runtime.devices.compiler_options", return_value=quick):
        assert run(Saliency.open(settings))
    return folder


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("placed"), by_place=True)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("coloured"), by_place=False)


def f_measures(folder):
    table = rows(folder / "run" / "saliency.csv")
    chosen = [r for r in table if (r["figure"], r["minus"]) == ("f_max", "")]
    return {row["padding"]: float(row["value"]) for row in chosen}


def test_where_place_tells_what_is_salient_only_padding_that_tells_place_finds_it(placed):
    f_measure = f_measures(placed)
    assert f_measure["zeros"] > 0.85
    # Of two alike discs it can only find both: half of that is right.
    assert f_measure["circular"] < 1.3 * 0.5 / (0.3 * 0.5 + 1) + 0.02
    assert f_measure["mean mask"] < 0.4


def test_where_place_tells_nothing_padding_does_not_matter(coloured):
    f_measure = f_measures(coloured)
    assert min(f_measure["zeros"], f_measure["circular"]) > 0.85
    assert f_measure["mean mask"] < 0.4


def shift_settings(folder, **changes):
    networks = (f"{folder}/run/*/network.safetensors",)
    images, workdir = f"{folder}/shapes/images", folder / "crops"
    settings = crop_shift.ShiftSettings(networks=networks, images=images, workdir=workdir, **SHIFTS)
    return dataclasses.replace(settings, **changes)


def shifts(folder):
    """What crop_shift left: value, low and high by padding and figure."""
    with Image.open(folder / "crops" / "crop_shift.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    assert json.loads((folder / "crops" / "config.json").read_text())["weight_digests"]
    return {
        (row["padding"], row["figure"]): [float(row[name]) for name in ("value", "low", "high")]
        for row in rows(folder / "crops" / "crop_shift.csv")
    }


def test_crops_move_what_is_salient_by_its_place(placed):
    crop_shift.run(shift_settings(placed))
    ways = shifts(placed)
    value, low, high = ways["zeros", "mass"]
    # A disc below the middle that comes above it becomes salient.
    assert 0.02 < low < value < high < 1
    assert abs(ways["circular", "mass"][0]) < 0.05


def test_crops_do_not_move_what_is_salient_by_its_colour(coloured):
    crop_shift.run(shift_settings(coloured))
    ways = shifts(coloured)
    assert max(abs(ways[padding, "mass"][0]) for padding in ("zeros", "circular")) < 0.02
    assert max(abs(ways[padding, "peak"][0]) for padding in ("zeros", "circular")) < 0.1


def test_crops_of_generated_images_are_refused_by_name(coloured):
    with pytest.raises(ValueError, match=r"^images: noise is generated, .*expected a folder"):
        crop_shift.run(shift_settings(coloured, images="noise"))


def test_a_network_that_predicts_no_number_is_refused(coloured):
    path = coloured / "run" / "vgg8_bn_quarter-zeros-seed0" / "network.safetensors"
    with safe_open(path, "numpy") as file:
        about = file.metadata()
    arrays = load_file(path)
    broken = coloured / "broken.safetensors"
    broken.write_bytes(save({name: a * np.float32("nan") for name, a in arrays.items()}, about))
    changes = {"networks": (str(broken),), "num_train": 95, "workdir": coloured / "none"}
    with pytest.raises(ValueError, match=r"^networks: vgg8_bn_quarter zeros seed 0 predicts NaN"):
        crop_shift.run(shift_settings(coloured, **changes))


def program(name, workdir, *flags, code=0):
    """What a program printed, on standard output or as an error."""
    done = run_program(name, workdir, *flags)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Images and masks, and a file that is no image."""
    shapes = write_shapes(tmp_path_factory.mktemp("bad") / "shapes", 12, by_place=True)
    (shapes / "images" / "bad.png").write_bytes(b"nothing")
    return (f"--images={shapes}/images", "--skip_bad_images", "--devices=1")


def test_a_program_trains_a_network_without_padding(bad, tmp_path):
    flags = (*bad, bad[0].replace("images", "masks"))
    short = ("--paddings=valid", "--epochs=1", "--num_train=8", "--num_test=4", "--batch_size=4")
    out = program("train_dense", tmp_path / "run", *flags, "--image_size=80", *short)
    assert "8 of " in out
    assert "4 of " in out
    assert re.search(r"\nmasks of images: +8 of 0 and 255\n", out)
    assert re.search(r"\nleft out of images: +1: bad\.png \(no image", out)
    weights = tmp_path / "run" / "vgg8_bn_quarter-valid-seed0" / "weights.safetensors"
    assert encoders.load_with_info("vgg8_bn_quarter", weights).normalize == "imagenet"
    network = load_network(weights.with_name("network.safetensors"))
    images = jax.ShapeDtypeStruct((2, 80, 80, 3), np.float32)
    assert jax.eval_shape(network.module.apply, network.variables, images).shape == (2, 80, 80)


def test_a_program_moves_crops(placed, bad, tmp_path):
    networks = f"--networks={placed}/run/*zeros*/network.safetensors"
    flags = (networks, *bad, "--num_train=8", "--num_test=3")
    assert "left out of images: 1: bad.png" in program("crop_shift", tmp_path / "crops", *flags)
    assert set(shifts(tmp_path)) == {("zeros", "peak"), ("zeros", "mass")}


def test_bad_flags_are_refused_before_anything_is_written(tmp_path):
    err = program("train_dense", tmp_path / "run", "--masks=x", code=1)
    assert "--images is needed" in err
    assert err.count("\n") <= 2
    assert not (tmp_path / "run").exists()
