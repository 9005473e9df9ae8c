"""Two cases are timed in turn, each in a process of its own.

The thread pools of JAX and PyTorch disturb each other within one process; a process sleeps while
the other one is timed.
"""

import contextlib
import importlib
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

LEAST_SECONDS = 0.2  # A shorter timing is mostly noise: quick cases are repeated.

Row = dict[str, Any]
"""What JSON gets of one comparison or program."""


class Case(NamedTuple):
    """A function of a module of `experiments.benchmarks`, which gives a function to time."""

    label: str
    module: str
    function: str
    arguments: dict[str, Any]


def new_process() -> ProcessPoolExecutor:
    """A process that starts with no library loaded."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def call(case: Case) -> Any:
    """What a case's function returns."""
    module = importlib.import_module(f"experiments.benchmarks.{case.module}")
    return getattr(module, case.function)(**case.arguments)


def time_pair(name: str, a: Case, b: Case, turns: int, **about: Any) -> Row:
    """Times two cases, `turns` times each; `about` is added to the row."""
    seconds: list[list[float]] = [[], []]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(new_process()) for _ in seconds]
        repeats = [
            process.submit(_prepare, case).result()
            for process, case in zip(processes, (a, b), strict=True)
        ]
        for _ in range(turns):
            for process, count, times in zip(processes, repeats, seconds, strict=True):
                times.append(process.submit(_mean_seconds, count).result())
    return pair_row(name, (a.label, b.label), seconds, **about)


def pair_row(
    name: str, labels: Sequence[str], seconds: Sequence[Sequence[float]], **about: Any
) -> Row:
    """The seconds of both sides in every turn, their medians, and the ratios of the turns."""
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    row: Row = {"name": name, **about}
    for side, label, times in zip("ab", labels, seconds, strict=True):
        row |= {side: label, f"{side}_seconds": times, f"{side}_median": statistics.median(times)}
    spread = {"ratio_min": min(ratios), "ratio_max": max(ratios)}
    return row | {"ratio": statistics.median(ratios)} | spread


# The function that this process times.
_timed: Callable[[], object]


def _prepare(case: Case) -> int:
    """Compiles a case; returns how often to run it for one timing."""
    global _timed
    _timed = call(case)
    _timed()
    return max(1, math.ceil(LEAST_SECONDS / max(_mean_seconds(1), 1e-6)))


def _mean_seconds(count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        _timed()
    return (time.perf_counter() - start) / count
