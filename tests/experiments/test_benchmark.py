"""The benchmark, with tiny sizes and without PyTorch."""

import dataclasses
import importlib.util
import json
import statistics

import pytest
from programs import QUICK, quick

from experiments import benchmark
from experiments.benchmarks import jax_side
from experiments.benchmarks.tpu import program_row


@pytest.fixture
def without_extras(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in benchmark.EXTRAS else there(name)
    )


def test_pairs_give_ratios_with_their_spread_and_the_machine(
    without_extras, monkeypatch, tmp_path, capsys
):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    quarter = dataclasses.replace(benchmark.SMALL, encoders=("vgg8_bn_quarter",))
    monkeypatch.setattr(benchmark, "SMALL", quarter)
    out = tmp_path / "new" / "benchmark.json"
    benchmark.main(["--small", "--sections=padding", "--turns=2", f"--out={out}"])
    report = json.loads(out.read_text())
    machine = report["machine"]
    assert int(machine["cores"]) >= 1
    assert "GiB" in machine["memory"]
    assert "cpu" in machine["on posjax"]
    assert {"python", "jax", "flax"} <= machine.keys()
    assert report["sizes"]["turns"] == 2
    (row,) = report["rows"]
    assert row["name"] == "vgg8_bn_quarter partial over zeros"
    ratios = [a / b for a, b in zip(row["a_seconds"], row["b_seconds"], strict=True)]
    assert len(ratios) == 2
    assert row["ratio"] == pytest.approx(statistics.median(ratios))
    assert (row["ratio_min"], row["ratio_max"]) == (min(ratios), max(ratios))
    assert row["a_median"] == pytest.approx(statistics.median(row["a_seconds"]))
    assert row["sizes"] == {"encoder": "vgg8_bn_quarter", "batch": 2, "size": 32}
    assert f"ratio {row['ratio']:.4g} [" in capsys.readouterr().out


def test_a_training_step_of_posjax_runs_again_and_again():
    with quick():
        step = jax_side.resnet20_step("zeros", batch=2)
        step()
        step()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("encoder", r"encoder needs PyTorch: pip install 'posjax\[benchmark\]'"),
        ("tpu", r"tpu needs libtpu: pip install 'posjax\[tpu\]'"),
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
        "ratio": 1.25,
    }
    row = program_row("encode", compiled)
    # 20 ms, in which a v5e could make 3.94e12 of them.
    assert (row["milliseconds"], row["part_of_peak"]) == (pytest.approx(20), pytest.approx(0.25))
    assert json.loads(json.dumps(row))["hbm_bytes"] == 6_000_000_000
    line, sorts, loops = benchmark.program_text(row).splitlines()
    assert "30.00 M cycles, 20.00 ms, 0.250 of peak, 6.00 GB, 31.2 s" in line
    assert line.endswith("1.25 over zeros")
    assert sorts.endswith("15 x sort")
    assert loops.endswith("2")


@pytest.mark.parametrize("flags", [["--sections=encoder,speed"], ["--turns=0"]])
def test_what_cannot_run_is_refused(flags, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(flags)
    assert flags[0].partition("=")[0] in capsys.readouterr().err
