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
Computation = list[re.Match[str]]
"""The name, the kind and the rest of each operation; `string` is its whole line."""


def estimate(text: str) -> Cost:
    """The sum of `estimated_cycles` over all operations that run, from a TPU program's HLO text.

    What a loop calls runs as often as the text says, and of a conditional the branch that takes
    longest. A fusion has one estimate, and what is inside of it none that counts.

    Raises:
        ValueError: the text has no ENTRY.
    """
    computations, entry = _computations(text)

    @functools.cache
    def of_computation(name: str) -> Cost:
        return sum(map(of_operation, computations[name]), Cost())

    def of_operation(operation: re.Match[str]) -> Cost:
        called = {
            kind: [of_computation(name.strip(" %")) for name in names.split(",")]
            for kind, names in _CALLED.findall(operation.string)
            if operation[2] in ("while", "conditional", "call", "async-start")
        }
        costs = [cost for costs in called.values() for cost in costs]
        if operation[2] == "while":
            return _repeated(sum(costs, Cost()), _trips(operation.string, computations))
        if costs:
            return max(costs, key=lambda cost: cost[CYCLES])
        return _of_one(operation)

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


def _computations(text: str) -> tuple[dict[str, Computation], str]:
    """Every computation by its name, and the name of the one that is run."""
    computations: dict[str, Computation] = {}
    entry, operations = "", []
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            operations = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif operation := _OPERATION.match(line):
            operations.append(operation)
    if not entry:
        raise ValueError("the text of the program has no ENTRY")
    return computations, entry


def _of_one(operation: re.Match[str]) -> Cost:
    """The cost of an operation that calls nothing that counts."""
    if cycles := _CYCLES.search(operation.string):
        return Cost({CYCLES: int(cycles[1])})
    noted = any(f'custom_call_target="{note}"' in operation.string for note in NOTES)
    if operation[2] in TIMED and not noted:
        # Fusions are named after what is in them: gather_fusion.4.
        return Cost({re.split("[^a-z_-]", operation[1])[0]: 1})
    return Cost()


def _repeated(turn: Cost, trips: int | None) -> Cost:
    """The cost of a loop; loops within it stay as many as they are."""
    if not trips:
        return turn + Cost({ENDLESS: 1})
    return Cost({kind: n if kind == ENDLESS else n * trips for kind, n in turn.items()})


def _trips(loop: str, computations: dict[str, Computation]) -> int | None:
    """How often a loop runs, where it counts from 0 up to a constant, as `lax.scan` does."""
    if trips := _TRIPS.search(loop):
        return int(trips[1])
    condition = computations[dict(_CALLED.findall(loop))["condition"].removeprefix("%")]
    constants = {
        operation[1]: int(operation[3].partition(")")[0])
        for operation in condition
        if operation[2] == "constant" and re.match(r"\d+\)", operation[3])
    }
    root = next(one.string for one in condition if one.string.lstrip().startswith("ROOT"))
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
