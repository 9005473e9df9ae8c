"""Records: bootstrap intervals, results.csv, and result files that are whole or not at all."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from posjax.probes import constant_mae, position_map
from posjax.probes.controls import Task
from posjax.results.intervals import bootstrap_mean
from posjax.results.records import (
    Gallery,
    PenaltyPath,
    Probe,
    Record,
    Result,
    Scores,
    summarise,
    to_records,
    write_atomically,
    write_csv,
)
from posjax.results.files import load_result, save_result

PROBE = Probe("resnet20", "random", "zeros", "f1+f2", 1, 3, 0, "sgd")
COLUMNS = (
    "encoder,weights,padding,stages,map,depth,kernel_size,readout_padding,solver,seed,"
    "test_images,n_images,spc,spc_low,spc_high,spc_undefined,mae,mae_low,mae_high,"
    "mae_constant,skill"
)


def make_result(seeds=(0, 0, 1, 1), maps=("H", "V", "H", "V"), probe=PROBE, offset=0.0):
    rng = np.random.default_rng(len(seeds))
    scores = {
        name: Scores(rng.uniform(0, 0.5, (len(maps), n)), offset + rng.uniform(0, 0.2, (4, n)))
        for name, n in (("noise", 6), ("black", 1))
    }
    scores["noise"].spc[0, 2] = scores["black"].spc[1] = np.nan
    galleries = {
        name: Gallery(
            rng.integers(0, 256, (k, 8, 8, 3), np.uint8),
            rng.integers(0, 256, (2, k, 8, 8), np.uint8),
        )
        for name, k in (("noise", 4), ("black", 1))
    }
    losses = rng.uniform(size=(5, len(maps))).astype(np.float32)
    return Result(probe, tuple(map(Task, maps)), seeds, 32, losses, scores, galleries)


def test_one_row_for_each_readout_and_set_of_test_images():
    result = make_result()
    rows = to_records(result)
    assert [(r.test_images, r.map, r.seed, r.n_images, r.spc_undefined) for r in rows] == [
        *[("noise", "H", 0, 6, 1), ("noise", "V", 0, 6, 0)],
        *[("noise", "H", 1, 6, 0), ("noise", "V", 1, 6, 0)],
        *[("black", "H", 0, 1, 0), ("black", "V", 0, 1, 1)],
        *[("black", "H", 1, 1, 0), ("black", "V", 1, 1, 0)],
    ]
    for row, scores in zip(rows[:4], result.scores["noise"].mae, strict=True):
        assert {k: v for k, v in vars(row).items() if k in vars(PROBE)} == vars(PROBE)
        constant = float(constant_mae(position_map(row.map, 32)))
        assert row.mae_constant == constant
        assert row.skill == 1 - row.mae / constant
        assert row.mae == pytest.approx(scores.mean())
        assert row.mae_low < row.mae < row.mae_high
        assert row.spc_low < row.spc < row.spc_high
    assert rows[0].spc == pytest.approx(np.nanmean(result.scores["noise"].spc[0]))
    assert (rows[5].spc, rows[5].spc_low, rows[5].spc_high) == (None, None, None)


def test_a_summary_is_over_seeds_of_one_result_or_of_several():
    whole = make_result()
    parts = [
        dataclasses.replace(
            whole,
            tasks=whole.tasks[s],
            seeds=whole.seeds[s],
            scores={k: Scores(v.spc[s], v.mae[s]) for k, v in whole.scores.items()},
        )
        for s in (slice(0, 2), slice(2, 4))
    ]
    summaries = summarise([whole])
    assert summarise(parts) == summaries
    assert [(s.map, s.test_images) for s in summaries] == [
        *[("H", "noise"), ("V", "noise"), ("H", "black"), ("V", "black")]
    ]
    first, scores = summaries[0], whole.scores["noise"]
    assert (first.probe, first.n_seeds, first.n_images, first.spc_undefined) == (PROBE, 2, 6, 1)
    assert first.spc == bootstrap_mean(scores.spc[[0, 2]])
    assert first.mae == bootstrap_mean(scores.mae[[0, 2]])
    assert first.skill == 1 - first.mae[0] / first.mae_constant


def test_probes_are_summarised_apart():
    other = dataclasses.replace(PROBE, padding="valid")
    summaries = summarise([make_result(), make_result(probe=other, offset=1.0)])
    assert [s.probe.padding for s in summaries] == ["zeros"] * 4 + ["valid"] * 4
    assert all(s.mae[0] > 1 for s in summaries[4:])


def make_record(**values):
    types = {"int": 7, "str": "a,b", "float": 0.123456789, "float | None": 1234567.89}
    types["int | None"] = 7
    fields = {
        f.name: types[f.type.__name__ if isinstance(f.type, type) else str(f.type)]
        for f in dataclasses.fields(Record)
    }
    return Record(**fields | values)


def test_results_csv(tmp_path):
    path = tmp_path / "results.csv"
    none = {"spc": None, "spc_low": None, "spc_high": None}
    rows = [make_record(control=""), make_record(**none, mae=1e-9, control="")]
    write_csv(path, rows)
    lines = path.read_text().splitlines()
    assert lines[0] == COLUMNS
    first, second = csv.DictReader(lines)
    assert (first["encoder"], first["n_images"], first["seed"]) == ("a,b", "7", "7")
    assert (first["mae"], first["spc"]) == ("0.123457", "1.23457e+06")
    write_csv(path, [*rows, make_record(control="roll")])
    assert path.read_text().splitlines()[0] == f"{COLUMNS},control"
    found = csv.DictReader(path.read_text().splitlines())
    assert [row["control"] for row in found] == ["", "", "roll"]
    assert (second["spc"], second["spc_low"], second["spc_high"]) == ("", "", "")
    assert second["mae"] == "1e-09"
    write_csv(path, [make_record(seed=None)])
    assert next(csv.DictReader(path.read_text().splitlines()))["seed"] == ""
    write_csv(path, [])
    assert path.read_text() == COLUMNS + "\n"


def assert_same(found, expected):
    if dataclasses.is_dataclass(expected):
        assert type(found) is type(expected)
        assert_same(vars(found), vars(expected))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = make_result()
    save_result(tmp_path / "group.npz", result)
    assert_same(load_result(tmp_path / "group.npz"), result)
    assert [p.name for p in tmp_path.iterdir()] == ["group.npz"]


def test_a_path_of_penalties_and_missing_seeds_are_read_as_they_were_written(tmp_path):
    path = PenaltyPath(np.array([1.0, 0.1]), np.ones((2, 4)), np.full(4, 0.1))
    result = make_result(seeds=(None,) * 4, probe=dataclasses.replace(PROBE, solver="ridge"))
    result = dataclasses.replace(result, path=path)
    save_result(tmp_path / "group.npz", result)
    assert_same(load_result(tmp_path / "group.npz"), result)
    assert {row.seed for row in to_records(result)} == {None}


@pytest.mark.parametrize("part", [0, 0.001, 0.01, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999])
def test_a_truncated_result_is_refused_by_its_name(tmp_path, part):
    path = tmp_path / "group.npz"
    save_result(path, make_result())
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"group\.npz is not a result.*delete it"):
        load_result(path)


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.85])
def test_a_damaged_result_is_refused_by_its_name(tmp_path, part):
    path = tmp_path / "group.npz"
    save_result(path, make_result())
    content = bytearray(path.read_bytes())
    start = int(part * len(content))
    content[start : start + 60] = bytes(b ^ 0xFF for b in content[start : start + 60])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"group\.npz is not a result"):
        load_result(path)


def test_other_files_are_refused_by_their_name(tmp_path):
    path = tmp_path / "group.npz"
    np.savez(path, about='{"probe": {"another": 1}, "test_images": []}', losses=np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"group\.npz"):
        load_result(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"group\.npz"):
        load_result(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"group\.npz"):
        load_result(path)


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_):
        raise OSError("no room")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, fail)
            with pytest.raises(OSError, match="no room"):
                write_atomically(path, b"newer, and longer")
        assert path.read_bytes() == b"new"
        assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


WRITER = """
import sys
from pathlib import Path
from posjax.results.records import write_atomically
path, size = Path(sys.argv[1]), 1 << 20
for i in range(10**9):
    write_atomically(path, bytes([i % 256]) * size)
    if i == 0:
        print("first", flush=True)
"""


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path = tmp_path / "results.csv"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"first\n"
        for _ in range(20):
            time.sleep(0.013)
            seen = path.read_bytes()
            assert seen == seen[:1] * (1 << 20)
        process.send_signal(signal.SIGKILL)
    left = path.read_bytes()
    assert left == left[:1] * (1 << 20)
