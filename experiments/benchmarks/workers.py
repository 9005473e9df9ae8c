"""Workers: processes that time one thing each, in turn, as their parent says.

The thread pools of JAX and PyTorch disturb each other within one process. So each side has a
process, which sleeps while the other one is timed.
"""

import functools
import importlib
import math
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

LEAST_SECONDS = 0.2  # a shorter timing is mostly noise: quick cases are repeated within it


class Worker:
    """A process that runs the cases of one module, seen from its parent."""

    def __init__(self, module: str):
        self._module = module
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown()

    def call(self, function: str, **arguments: Any) -> Any:
        """What a function of the module returns."""
        return self._run(_call, self._module, function, arguments)

    def prepare(self, case: str, **sizes: Any) -> int:
        """Makes a case ready and warm; returns how often to run it for one timing."""
        return self._run(_prepare, self._module, case, sizes)

    def seconds(self, number: int) -> float:
        """The mean time of `number` runs of the case that was prepared last."""
        return self._run(_seconds, number)

    def _run(self, function: Callable, *arguments: Any) -> Any:
        return self._process.submit(function, *arguments).result()


@functools.cache
def _prepared() -> dict[str, Callable[[], None]]:
    """The case of this process that is timed."""
    return {}


def _call(module: str, function: str, arguments: dict[str, Any]) -> Any:
    return getattr(importlib.import_module(module), function)(**arguments)


def _prepare(module: str, case: str, sizes: dict[str, Any]) -> int:
    _prepared().clear()  # frees the memory of the case before
    _prepared()["case"] = _call(module, case, sizes)
    _seconds(1)  # compiles
    return max(1, math.ceil(LEAST_SECONDS / max(_seconds(1), 1e-6)))


def _seconds(number: int) -> float:
    run = _prepared()["case"]
    start = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - start) / number
