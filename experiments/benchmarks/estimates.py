"""What a program asks of a TPU: the compiler's estimate of its cycles, and its products."""

import collections
import functools
import math
import re
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

# Operations that take time also where the compiler writes no estimate, as for gathers.
TIMED = (
    *("fusion", "convolution", "dot", "sort", "gather", "scatter", "reduce-window", "custom-call"),
    *("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute"),
)
# Custom calls that stand for nothing that runs.
NOTES = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?(\S+) = .*? ([a-z][\w-]*)\((.*)$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(
    r"(condition|body|calls|to_apply|\w+_computations?)=\{?(%[^,\s}]+(?:, ?%[^,\s}]+)*)"
)


Cost = collections.Counter
"""Cycles of one device; loops of unknown length, counted once; and what is not counted.

These are under `CYCLES` and `ENDLESS`. The other keys are kinds of operations that take time and
have no estimate.
"""
CYCLES, ENDLESS = "cycles", "endless loops"


def estimate(text: str) -> Cost:
    """The sum of `estimated_cycles` over all operations that run, from a TPU program's HLO text.

    What a loop calls runs as often as the text says, and of a conditional the branch that takes
    longest. A fusion has one estimate, and what is inside of it none that counts.
    """
    computations, entry = _computations(text)

    @functools.cache
    def of_computation(name: str) -> Cost:
        return sum(map(of_operation, computations[name]), Cost())

    def of_operation(line: str) -> Cost:
        name, opcode, _ = _operation(line).groups()
        called = _called(line)
        if opcode == "while":
            (body,), (condition,) = called["body"], called["condition"]
            turn = of_computation(body) + of_computation(condition)
            trips = _trips(line, computations[condition])
            if not trips:
                return turn + Cost({ENDLESS: 1})
            # A loop within is one loop.
            return Cost({k: n if k == ENDLESS else n * trips for k, n in turn.items()})
        if opcode == "conditional":
            branches = [name for names in called.values() for name in names]
            return max(map(of_computation, branches), key=lambda branch: branch[CYCLES])
        if opcode in ("call", "async-start"):
            (name,) = (name for names in called.values() for name in names)
            return of_computation(name)
        if cycles := _CYCLES.search(line):
            return Cost({CYCLES: int(cycles[1])})
        if opcode in TIMED and not any(f'custom_call_target="{note}"' in line for note in NOTES):
            # Fusions are named after what is in them: gather_fusion.4.
            return Cost({re.split("[^a-z_-]", name)[0]: 1})
        return Cost()

    return of_computation(entry)


def products(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    """Multiplications and additions of all matrix products and convolutions of a program.

    A product in several passes counts once. Of a conditional the dearest branch counts, of a loop
    of unknown length one turn, and of a strided convolution's gradient no inserted zeros.
    """
    total = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        inner = [
            products(value)
            for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr)
            if _is_jaxpr(value)
        ]
        match equation.primitive.name:
            case "dot_general":
                total += _of_dot(equation)
            case "conv_general_dilated":
                total += _of_convolution(equation)
            case "cond":
                total += max(inner)
            case "scan":
                total += equation.params["length"] * sum(inner)
            case _:
                total += sum(inner)
    return total


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of every computation by its name, and the name of the one that is run."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            lines = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif _OPERATION.match(line):
            lines.append(line)
    if not entry:
        raise ValueError("the text of the program has no ENTRY")
    return computations, entry


def _operation(line: str) -> re.Match[str]:
    operation = _OPERATION.match(line)
    assert operation is not None  # `_computations` gives no other lines
    return operation


def _called(line: str) -> dict[str, list[str]]:
    return {
        kind: [name.strip().removeprefix("%") for name in names.split(",")]
        for kind, names in _CALLED.findall(line)
    }


def _trips(line: str, condition: list[str]) -> int | None:
    """How often a loop runs, where it counts from 0 up to a constant, as `lax.scan` does."""
    if trips := _TRIPS.search(line):
        return int(trips[1])
    constants = {
        operation[1]: int(operation[3].partition(")")[0])
        for operation in map(_operation, condition)
        if operation[2] == "constant" and re.match(r"\d+\)", operation[3])
    }
    root = next(line for line in condition if line.lstrip().startswith("ROOT"))
    compared = re.search(r" compare\(%?\S+, %?(\S+)\), direction=LT", root)
    return constants.get(compared[1]) if compared else None


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def _of_dot(equation: Any) -> int:
    ((contracted, _), _) = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)


def _of_convolution(equation: Any) -> int:
    kernel, out = equation.invars[1].aval, equation.outvars[0].aval
    outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    inserted = math.prod(equation.params["lhs_dilation"])
    return 2 * out.size * (kernel.size // outputs) // inserted
