"""Programs run as their users run them, in processes of their own, at tiny sizes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Programs run once on little: optimising them would take longer than they do.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
TINY = [
    "--weights=random",
    "--images=noise",
    "--image_size=32",
    "--num_train=6",
    "--num_test=3",
    "--batch_size=4",
    "--seeds=0",
    "--controls=none",
]


def start(program: str, workdir: Path, *flags: str) -> subprocess.CompletedProcess:
    tiny = TINY if "--solver=ridge" in flags else [*TINY, "--epochs=1"]
    command = [sys.executable, "-m", f"experiments.{program}", f"--workdir={workdir}"]
    command += [*tiny, *flags]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | QUICK
    )


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
