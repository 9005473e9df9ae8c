"""Workers: processes that time one thing each, in turn, as their parent tells them.

The thread pools of JAX and PyTorch disturb each other within one process. So each side has a
process of its own, which sleeps while the other one is timed. A line of JSON goes in for each
order, and one comes back: `value`, or `error`.
"""

import importlib
import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

LEAST_SECONDS = 0.2  # a shorter timing is mostly noise: quick cases are repeated within it


class Worker:
    """A process that runs the cases of one module, seen from its parent.

    `environment` is added to that of the parent.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None):
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def prepare(self, case: str, **sizes: Any) -> int:
        """Makes a case ready and warm; returns how often to run it for one timing."""
        return self._order(do="prepare", name=case, sizes=sizes)

    def seconds(self, number: int) -> float:
        """The mean time of `number` runs of the case that was prepared last."""
        return self._order(do="time", number=number)

    def call(self, function: str, **sizes: Any) -> Any:
        """What a function of the module returns."""
        return self._order(do="call", name=function, sizes=sizes)

    def _order(self, **order: Any) -> Any:
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the worker of {self._module} died, its errors stand above")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self._module}, {order.get('name')}: {answer['error']}")
        return answer["value"]


def serve(module_name: str) -> None:
    """Runs orders from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    run: Callable[[], None] | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            module = importlib.import_module(module_name)
            if order["do"] == "prepare":
                run = None  # the memory of the case before, first
                run = getattr(module, order["name"])(**order["sizes"])
                value = _repeats(run)
            elif order["do"] == "time":
                value = _seconds(run, order["number"])
            else:
                value = getattr(module, order["name"])(**order["sizes"])
            answer = {"value": value}
        # Whatever it is, the parent has to know.
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _repeats(run: Callable[[], None]) -> int:
    run()  # compiles
    return max(1, math.ceil(LEAST_SECONDS / max(_seconds(run, 1), 1e-6)))


def _seconds(run: Callable[[], None], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - start) / number


if __name__ == "__main__":
    serve(sys.argv[1])
