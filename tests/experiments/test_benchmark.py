"""The benchmark, with tiny sizes and without PyTorch."""

import importlib.util
import json
import statistics

import pytest

from experiments import benchmark
from experiments.benchmarks import rows, sections, tpu
from experiments.benchmarks.workers import Worker


def test_padding_gives_ratios_with_their_spread_and_the_machine(tmp_path, capsys):
    out = tmp_path / "new" / "benchmark.json"
    benchmark.main(["--small", "--sections=padding", "--turns=2", f"--out={out}"])
    found = json.loads(out.read_text())
    assert int(found["machine"]["cores"]) >= 1
    assert "GiB" in found["machine"]["memory"]
    assert "cpu" in found["machine"]["posjax"]
    assert {"python", "jax", "flax"} <= found["versions"].keys()
    assert found["turns"] == 2
    assert [row["name"] for row in found["rows"]] == ["vgg16 partial over zeros"]
    for row in found["rows"]:
        ratios = [a / b for a, b in zip(row["a_seconds"], row["b_seconds"], strict=True)]
        assert len(ratios) == 2
        assert row["ratio"] == pytest.approx(statistics.median(ratios))
        assert (row["ratio_min"], row["ratio_max"]) == (min(ratios), max(ratios))
        assert row["a_median"] == pytest.approx(statistics.median(row["a_seconds"]))
        assert row["sizes"] == {"batch": 2, "size": 32}
    printed = capsys.readouterr().out
    assert "vgg16 partial over zeros" in printed
    assert f"{found['rows'][0]['ratio']:.4g} [" in printed


def test_readouts_are_timed_over_one_pass(tmp_path):
    small = rows.SMALL
    bench = rows.Bench(small, 1, None, None, tmp_path)
    found = list(sections.readout_grid(bench))
    assert [row.name for row in found] == ["2 epochs of 2 readouts over one vgg16 pass"]
    assert all(row.a_seconds[0] > 0 and row.b_seconds[0] > 0 for row in found)


def test_a_worker_tells_its_parent_what_went_wrong():
    with (
        Worker("experiments.benchmarks.jax_side") as worker,
        pytest.raises(RuntimeError, match="no_such_encoder"),
    ):
        worker.prepare("forward", encoder="no_such_encoder", padding="zeros", batch=1, size=32)


def test_without_pytorch_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    out = tmp_path / "benchmark.json"
    with pytest.raises(SystemExit, match=r"encoder.*pip install 'posjax\[benchmark\]'"):
        benchmark.main(["--sections=encoder", f"--out={out}"])
    assert not out.exists()


def test_without_libtpu_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    out = tmp_path / "benchmark.json"
    with pytest.raises(SystemExit, match=r"tpu_programs needs libtpu: pip install 'posjax\[tpu\]'"):
        benchmark.main(["--sections=tpu", f"--out={out}"])
    assert not out.exists()


def test_a_compiled_program_is_told_in_cycles_milliseconds_and_parts_of_the_peak():
    memory = {"argument": 5_000_000_000, "output": 2_000_000_000, "temp": 1_000_000_000}
    row = tpu.Compiled(
        section="tpu",
        name="encode",
        devices=1,
        sizes={},
        cycles=30_000_000,
        endless=2,
        missing={"sort": 15},
        flops=985_000_000_000,
        memory=memory | {"alias": 2_000_000_000},
        compile_seconds=31.24,
        over="zeros",
        ratio=1.25,
    )
    # 20 ms, in which a v5e could make 3.94e12 of them.
    assert row.cells() == ("encode", "30.00", "20.00", "0.250", "6.00", "31.2", "1.25")
    sorts, loops = row.remarks()
    assert "15 x sort" in sorts
    assert "2" in loops
    assert json.loads(json.dumps(row.as_json()))["hbm_bytes"] == 6_000_000_000


@pytest.mark.parametrize("flags", [["--sections=encoder,speed"], ["--turns=0"]])
def test_what_cannot_run_is_refused(flags, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(flags)
    assert flags[0].partition("=")[0] in capsys.readouterr().err
