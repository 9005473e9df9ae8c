"""The whole program as its users run it: real processes, killed and started again."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posjax.probes import position_map

ROOT = Path(__file__).parents[2]
TINY = [
    "--encoder=resnet20",
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
]
COLUMNS = (
    "encoder,weights,padding,stages,map,depth,kernel_size,readout_padding,solver,seed,test_images,"
    "n_images,spc,spc_low,spc_high,spc_undefined,mae,mae_low,mae_high,mae_constant,skill"
)


def command(workdir: Path, *flags: str) -> list[str]:
    program = [sys.executable, "-m", "experiments.padding_ablation"]
    return [*program, f"--workdir={workdir}", *TINY, *flags]


def run(workdir: Path, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(workdir, *flags), cwd=ROOT, capture_output=True, text=True, check=False
    )


def rows(workdir: Path) -> list[dict[str, str]]:
    with open(workdir / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
    """A cache of compiled programs for these runs alone, not that of the user."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run left alone, on one device, with features in float32."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = run(workdir, "--feature_dtype=float32")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_leaves_what_it_promises(finished):
    workdir, _ = finished
    assert (workdir / "results.csv").read_text().splitlines()[0] == COLUMNS
    found = rows(workdir)
    readouts = {(r["padding"], r["map"], r["seed"], r["test_images"]) for r in found}
    assert len(found) == len(readouts) == 2 * 2 * 2 * 2
    assert {r["n_images"] for r in found} == {"5", "1"}
    assert all(r["stages"] == "f1+f2+f3+f4" for r in found)
    for row in found:
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
    workdir, done = finished
    # One seed for each random encoder.
    assert "8 readouts on 4 encoders and 0 controls" in done.stdout
    assert "64 images" in done.stdout  # 4 encoders × (10 + 5 + 1)
    plan, table = done.stdout.index("encoder passes"), done.stdout.index("SPC")
    assert plan < table < done.stdout.index(f"report: {workdir / 'report.html'}")
    assert done.stderr == ""  # no bars where there is no terminal


def test_under_circular_a_white_image_has_no_order(finished):
    workdir, _ = finished
    white = [r for r in rows(workdir) if r["test_images"] == "white"]
    assert {r["spc"] for r in white if r["padding"] == "circular"} == {""}
    assert all(r["spc"] for r in white if r["padding"] == "zeros")


def test_a_killed_run_ends_like_one_left_alone_and_repeats_nothing(finished, tmp_path):
    workdir = tmp_path / "killed"
    flags = ["--feature_dtype=float32"]

    def kill_when(there) -> None:
        with open(tmp_path / "log", "ab") as log:
            process = subprocess.Popen(
                command(workdir, *flags), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
            deadline = time.monotonic() + 120
            while not there():
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def results() -> list[Path]:
        return sorted((workdir / "probes").glob("*.npz"))

    kill_when((workdir / "config.json").exists)
    assert not results()
    kill_when(lambda: len(results()) == 2)
    first = {path: path.stat().st_mtime_ns for path in results()}
    done = run(workdir, *flags)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in first} == first
    alone = finished[0]
    assert (workdir / "results.csv").read_bytes() == (alone / "results.csv").read_bytes()


def test_eight_devices_give_the_records_of_one(finished, tmp_path):
    done = run(tmp_path / "eight", "--feature_dtype=float32", "--devices=8")
    assert done.returncode == 0, done.stderr
    assert "8 × cpu" in done.stdout
    for one, eight in zip(rows(finished[0]), rows(tmp_path / "eight"), strict=True):
        for name in one:
            if name in ("spc", "spc_low", "spc_high", "mae", "mae_low", "mae_high", "skill"):
                values = [float(row[name]) if row[name] else math.nan for row in (one, eight)]
                # Skill is in units of the best constant's MAE, which is a quarter or more.
                most = 8e-5 if name == "skill" else 2e-5
                assert values[0] == pytest.approx(values[1], abs=most, nan_ok=True), (name, one)
            else:
                assert one[name] == eight[name]


def test_other_flags_on_the_same_workdir_are_refused(finished):
    workdir, _ = finished
    before = (workdir / "results.csv").read_bytes()
    refused = run(workdir, "--feature_dtype=float32", "--epochs=3")
    assert refused.returncode != 0
    assert "--epochs was 2 and is 3" in refused.stderr
    assert "Traceback" not in refused.stderr
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
        (["--pool_padding=lowest"], "resnet20"),
        (["--solver=ridge"], "--epochs means nothing to --solver=ridge"),
    ],
)
def test_bad_flags_are_named_before_any_work(flags, message, tmp_path):
    refused = run(tmp_path / "bad", *flags)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "bad").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    refused = run(tmp_path / "diverged", "--learning_rate=1e38", "--paddings=zeros")
    assert refused.returncode == 1
    assert "seed 0" in refused.stderr
    assert "1e+38" in refused.stderr
    assert "step" in refused.stderr
    assert not (tmp_path / "diverged" / "results.csv").exists()


def test_an_update_that_is_not_finite_stops_the_run_and_keeps_nothing(tmp_path):
    flags = ["--learning_rate=1e30", "--paddings=zeros", "--epochs=1", "--num_train=8"]
    refused = run(tmp_path / "diverged", *flags)
    assert refused.returncode == 1
    assert "seed 0" in refused.stderr
    assert "not finite" in refused.stderr
    assert not list((tmp_path / "diverged").glob("probes/*"))


def test_a_damaged_result_costs_no_row_of_the_table(finished, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(finished[0], workdir)
    before = (workdir / "results.csv").read_bytes()
    last = sorted((workdir / "probes").glob("*.npz"))[-1]
    last.write_bytes(last.read_bytes()[:1000])
    refused = run(workdir, "--feature_dtype=float32")
    assert refused.returncode == 1
    assert last.name in refused.stderr
    assert (workdir / "results.csv").read_bytes() == before


def test_training_images_in_the_test_are_told(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(6):
        Image.fromarray(rng.integers(256, size=(40, 50, 3), dtype=np.uint8)).save(
            tmp_path / "photos" / f"{i}.png"
        )
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    folder = tmp_path / "photos"
    flags = [f"--images={folder}", f"--test_images={folder}", "--paddings=zeros", "--num_train=4"]
    flags += ["--num_test=5", "--seeds=0", "--maps=H", "--epochs=1"]
    refused = run(tmp_path / "run", *flags)
    assert refused.returncode == 1
    assert "notes.txt" in refused.stderr

    done = run(tmp_path / "run", *flags, "--skip_bad_images")
    assert done.returncode == 0, done.stderr
    assert "notes.txt" in done.stdout
    assert "are training images too" in done.stdout
    assert "are training images too" in (tmp_path / "run" / "report.html").read_text()
