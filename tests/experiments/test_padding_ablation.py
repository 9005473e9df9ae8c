"""The whole program as its users run it, killed and started again too."""

import json
import math
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from programs import QUICK, ROOT, rows, run

from posjax.probes import position_map

TINY = (
    "--encoder=vgg8_bn_quarter",
    "--weights=random",
    "--images=dead_leaves",
    "--paddings=zeros,circular",
    "--image_size=32",
    "--num_train=10",
    "--num_test=5",
    "--batch_size=4",
    "--epochs=2",
    "--maps=H,HS",
    "--seeds=0,1",
    "--controls=none",
    "--test_images=dead_leaves",
    "--test_images=white",
    "--feature_dtype=float32",
)
COLUMNS = (
    "encoder,weights,padding,stages,map,depth,kernel_size,readout_padding,solver,seed,test_images,"
    "n_images,spc,spc_low,spc_high,spc_undefined,mae,mae_low,mae_high,mae_constant,skill"
)
ONE = "--devices=1"


def ablation(workdir, *flags):
    return run("padding_ablation", workdir, *TINY, ONE, *flags)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run left alone, on one device: its workdir, and what it printed on both streams."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = ablation(workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout, done.stderr


def test_leaves_what_it_promises(finished):
    workdir = finished[0]
    assert (workdir / "results.csv").read_text().splitlines()[0] == COLUMNS
    table = rows(workdir / "results.csv")
    readouts = {(r["padding"], r["map"], r["seed"], r["test_images"]) for r in table}
    assert len(table) == len(readouts) == 2 * 2 * 2 * 2
    assert {r["n_images"] for r in table} == {"5", "1"}
    assert all(r["stages"] == "f1+f2+f3+f4+f5" for r in table)
    for row in table:
        target = position_map(row["map"], 32)
        constant = np.abs(target - np.median(target)).mean()
        assert float(row["mae_constant"]) == pytest.approx(constant, rel=1e-5)
        assert float(row["skill"]) == pytest.approx(1 - float(row["mae"]) / constant, abs=1e-4)
        assert float(row["mae_low"]) <= float(row["mae"]) <= float(row["mae_high"])
        if row["spc"]:
            assert float(row["spc_low"]) <= float(row["spc"]) <= float(row["spc_high"])
        else:
            assert row["spc_low"] == row["spc_high"] == ""
            assert row["spc_undefined"] == row["n_images"]

    config = json.loads((workdir / "config.json").read_text())
    assert config["flags"]["epochs"] == 2
    assert {"posjax", "jax", "flax", "numpy"} <= config["versions"].keys()
    assert "cpu" in config["devices"]
    assert (workdir / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert list((workdir / "figures").glob("*.png"))
    assert len(list((workdir / "tensorboard").rglob("events*"))) == 4
    assert not (workdir / "scratch-0").exists()


def test_says_the_plan_first_and_the_table_last(finished):
    workdir, out, err = finished
    # One seed for each random encoder.
    assert "8 readouts on 4 encoders, and 0 for controls" in out
    assert "64 images" in out  # 4 encoders × (10 + 5 + 1)
    plan, table = out.index("encoder passes"), out.index("SPC")
    assert plan < table < out.index(f"report: {workdir / 'report.html'}")
    assert err == ""  # no bars where there is no terminal


def test_under_circular_a_white_image_has_no_order(finished):
    white = [r for r in rows(finished[0] / "results.csv") if r["test_images"] == "white"]
    assert {r["spc"] for r in white if r["padding"] == "circular"} == {""}
    assert all(r["spc"] for r in white if r["padding"] == "zeros")


def test_killed_on_three_devices_it_ends_on_one_with_the_same_records_and_repeats_nothing(
    finished, tmp_path
):
    workdir = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.padding_ablation", f"--workdir={workdir}"]
    with open(tmp_path / "out", "wb") as out:
        environment = os.environ | QUICK | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [*command, *TINY, "--devices=3"], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    deadline = time.monotonic() + 120
    while len(results := sorted((workdir / "probes").glob("*.npz"))) < 2:
        assert process.poll() is None, (tmp_path / "out").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert "3 × cpu" in (tmp_path / "out").read_text()
    before = {path: path.stat().st_mtime_ns for path in results}
    assert len(before) < 4
    assert ablation(workdir).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    tables = [rows(folder / "results.csv") for folder in (finished[0], workdir)]
    same = 0
    for one, other in zip(*tables, strict=True):
        same += one == other
        for name in one:
            if name in ("spc", "spc_low", "spc_high", "mae", "mae_low", "mae_high", "skill"):
                values = [float(row[name]) if row[name] else math.nan for row in (one, other)]
                # Skill is in units of the best constant's MAE, which is a quarter or more.
                most = 8e-5 if name == "skill" else 2e-5
                assert values[0] == pytest.approx(values[1], abs=most, nan_ok=True), (name, one)
            else:
                assert one[name] == other[name]
    # What one device computed is the same to the last digit.
    assert same >= len(tables[0]) * (4 - len(before)) / 4


def test_other_flags_on_the_same_workdir_are_refused(finished):
    workdir = finished[0]
    before = (workdir / "results.csv").read_bytes()
    refused = ablation(workdir, "--epochs=3")
    assert refused.returncode == 1
    assert "--epochs was 2 and is 3" in refused.stderr
    assert (workdir / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--paddings=zeros,refelct"], "'refelct'"),
        (["--paddings=valid"], "--image_size=32"),
        (["--stages=f9"], "f9"),
        (["--images=no/such/folder"], "no/such/folder"),
        (["--weights=no_such_file.th"], "no_such_file.th"),
        (["--maps=H,X"], "'X'"),
        (["--seeds=a"], "--seeds"),
        (["--kernel_sizes=31"], "31"),
        (["--skip_bad_images", "False"], "False"),
        (["--num_test=0"], "--num_test"),
        (["--num_train=100000000000"], "the names of 100,000,000,000 images alone need"),
        (["--controls="], "--controls is empty: give a value, --controls=none for none, or leave"),
        (["--pool_padding=lowest"], "vgg8_bn_quarter"),
        (["--solver=ridge"], "--epochs means nothing to --solver=ridge"),
    ],
)
def test_bad_flags_are_named_before_any_work(flags, message, tmp_path):
    refused = ablation(tmp_path / "bad", *flags)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert not (tmp_path / "bad").exists()


def test_notes_of_pillow_do_not_run_into_the_output(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x0e\0\x02\0\0\xff\xff\0\0\0\x10"
    for i in range(10):
        Image.new("RGB", (32, 32), (90, 20 * i, 9)).save(folder / f"{i}.jpg", exif=exif)
    told = "EXIF|Tag|Truncated"  # depends on the version of Pillow
    with pytest.warns(UserWarning, match=told), Image.open(folder / "0.jpg") as image:
        image.getexif()
    done = ablation(tmp_path / "run", f"--images={folder}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    refused = ablation(tmp_path / "run", "--learning_rate=1e38", "--paddings=zeros")
    assert refused.returncode == 1
    for text in ("seed 0", "1e+38", "step"):
        assert text in refused.stderr
    assert not (tmp_path / "run" / "results.csv").exists()


def test_an_update_that_is_not_finite_stops_the_run_and_keeps_nothing(tmp_path):
    flags = ["--learning_rate=1e30", "--paddings=zeros", "--epochs=1", "--num_train=8"]
    refused = ablation(tmp_path / "run", *flags)
    assert refused.returncode == 1
    assert "seed 0" in refused.stderr
    assert "not finite" in refused.stderr
    assert not list((tmp_path / "run").glob("probes/*"))


def test_a_damaged_result_costs_no_row_of_the_table(finished, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(finished[0], workdir)
    before = (workdir / "results.csv").read_bytes()
    last = sorted((workdir / "probes").glob("*.npz"))[-1]
    last.write_bytes(last.read_bytes()[:1000])
    refused = ablation(workdir)
    assert refused.returncode == 1
    assert last.name in refused.stderr
    assert (workdir / "results.csv").read_bytes() == before


def test_bad_images_and_training_images_in_the_test_are_named(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        pixels = rng.integers(256, size=(40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("not an image")
    flags = [f"--images={folder}", f"--test_images={folder}", "--seeds=0"]
    refused = ablation(tmp_path / "run", *flags)
    assert refused.returncode == 1
    assert "notes.txt" in refused.stderr

    done = ablation(tmp_path / "run", *flags, "--skip_bad_images")
    assert done.returncode == 0, done.stderr
    assert "notes.txt" in done.stdout
    assert "are training images too" in done.stdout
    assert "are training images too" in (tmp_path / "run" / "report.html").read_text()
