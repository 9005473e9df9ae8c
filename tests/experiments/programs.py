"""Programs at tiny sizes, within the process of the tests.

They run once on little: to import JAX, or to optimise what they compile, would take longer.
"""

import contextlib
import csv
import io
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
from absl.flags import FLAGS

ROOT = Path(__file__).parents[2]
# For programs in processes of their own.
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
TINY = [
    "--weights=random",
    "--images=noise",
    "--image_size=32",
    "--num_train=6",
    "--num_test=3",
    "--batch_size=4",
    "--seeds=0",
    "--controls=none",
    "--devices=1",
]


def start(program: str, workdir: Path, *flags: str) -> subprocess.CompletedProcess:
    """Runs a program on a little, see `run`."""
    tiny = TINY if "--solver=ridge" in flags else [*TINY, "--epochs=1"]
    return run(program, workdir, *tiny, *flags)


def run(program: str, workdir: Path, *flags: str) -> subprocess.CompletedProcess:
    """Runs a program as `python -m` does; gives its status and what it printed."""
    argv = [program, f"--workdir={workdir}", *flags]
    out, err = io.StringIO(), io.StringIO()
    with (
        quick(),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_module(f"experiments.{program}", run_name="__main__")
        except SystemExit as end:
            code = end.code
        else:
            raise AssertionError(f"{program} did not end its process")
    for flag in FLAGS.get_flags_for_module("experiments.flags"):
        delattr(FLAGS, flag.name)  # the next program defines its own
    if isinstance(code, str):
        print(code, file=err)
        code = 1
    return subprocess.CompletedProcess(argv, code or 0, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Compiles quickly; a program's own precision ends with it."""
    names = ("jax_disable_most_optimizations", "jax_default_matmul_precision")
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
