"""The benchmark, with tiny sizes and without PyTorch."""

import importlib.util
import json
import statistics

import pytest

from experiments import benchmark
from experiments.benchmarks import tables
from experiments.benchmarks.workers import Worker


@pytest.fixture
def without_extras(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_pairs_give_ratios_with_their_spread_and_the_machine(without_extras, tmp_path, capsys):
    out = tmp_path / "new" / "benchmark.json"
    benchmark.main(["--small", "--sections=padding", "--turns=2", f"--out={out}"])
    report = json.loads(out.read_text())
    assert int(report["machine"]["cores"]) >= 1
    assert "GiB" in report["machine"]["memory"]
    assert "cpu" in report["machine"]["posjax"]
    assert {"python", "jax", "flax"} <= report["versions"].keys()
    assert report["turns"] == 2
    (row,) = report["rows"]
    assert row["name"] == "vgg16 partial over zeros"
    ratios = [a / b for a, b in zip(row["a_seconds"], row["b_seconds"], strict=True)]
    assert len(ratios) == 2
    assert row["ratio"] == pytest.approx(statistics.median(ratios))
    assert (row["ratio_min"], row["ratio_max"]) == (min(ratios), max(ratios))
    assert row["a_median"] == pytest.approx(statistics.median(row["a_seconds"]))
    assert row["sizes"] == {"batch": 2, "size": 32}
    printed = capsys.readouterr().out
    assert "vgg16 partial over zeros" in printed
    assert f"{row['ratio']:.4g} [" in printed


def test_what_posjax_times_beside_pytorch_runs():
    sizes = {"batch": 4, "size": 32}
    cases = {
        "readouts": {"count": 2, "images": 8, "epochs": 2, **sizes},
        "training_step": {"depth": 1, **sizes},
        "encoder_step": {"encoder": "vgg8_bn_quarter", "padding": "zeros", **sizes},
    }
    with Worker("experiments.benchmarks.jax_side") as worker:
        for case, arguments in cases.items():
            assert worker.prepare(case, **arguments) >= 1
            assert worker.seconds(1) > 0
        with pytest.raises(ValueError, match="no_such_encoder"):
            worker.prepare("forward", encoder="no_such_encoder", padding="zeros", **sizes)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("encoder", r"encoder needs PyTorch: pip install 'posjax\[benchmark\]'"),
        ("tpu", r"tpu_programs needs libtpu: pip install 'posjax\[tpu\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(without_extras, tmp_path, section, message):
    out = tmp_path / "benchmark.json"
    with pytest.raises(SystemExit, match=message):
        benchmark.main([f"--sections={section}", f"--out={out}"])
    assert not out.exists()


def test_a_compiled_program_is_shown_in_cycles_milliseconds_and_parts_of_the_peak():
    memory = {"argument": 5_000_000_000, "output": 2_000_000_000, "temp": 1_000_000_000}
    compiled = {
        "cycles": 30_000_000,
        "endless": 2,
        "missing": {"sort": 15},
        "flops": 985_000_000_000,
        "memory": memory | {"alias": 2_000_000_000},
        "compile_seconds": 31.24,
        "over": "zeros",
        "ratio": 1.25,
    }
    row = tables.program_row("encode", {"devices": 4}, compiled)
    cells, sorts, loops = tables.row_text(row).splitlines()
    # 20 ms, in which a v5e could make 3.94e12 of them.
    assert cells.split() == ["encode", "30.00", "20.00", "0.250", "6.00", "31.2", "1.25"]
    assert "15 x sort" in sorts
    assert "2" in loops
    assert json.loads(json.dumps(row))["hbm_bytes"] == 6_000_000_000


@pytest.mark.parametrize("flags", [["--sections=encoder,speed"], ["--turns=0"]])
def test_what_cannot_run_is_refused(flags, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(flags)
    assert flags[0].partition("=")[0] in capsys.readouterr().err
