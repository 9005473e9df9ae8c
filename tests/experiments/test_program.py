"""Every program's own defaults fit together, without flags and with the paper's recipe."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from programs import ROOT

PROGRAMS = (
    *("existence", "layer_ablation", "matched_valid", "padding_ablation", "ppp"),
    *("readout_capacity", "stages"),
)


@pytest.mark.parametrize("flags", [[], ["--images=noise"]], ids=["demonstration", "paper"])
def test_defaults_are_refused_for_nothing_but_images_that_are_not_there(flags, tmp_path):
    # Shapes are checked before test images are opened, and nothing is encoded before that.
    def start(program):
        command = [
            sys.executable,
            "-m",
            f"experiments.{program}",
            f"--workdir={tmp_path / program}",
        ]
        command += [*flags, "--test_images=no such folder"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as pool:
        for program, done in zip(PROGRAMS, pool.map(start, PROGRAMS), strict=True):
            assert "error: --test_images=no such folder" in done.stderr, (program, done.stderr)
            assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []
