"""An interpreter of jaxprs: a function is computed operation by operation, some by other rules.

See "Writing custom interpreters in JAX" in JAX's documentation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Primitive
from jax.typing import ArrayLike


class Site(NamedTuple):
    """An equation and its place in the function.

    `path` are the numbers of the equations that lead to it, from the outermost function inwards.
    `scope` are the named scopes around it, joined by slashes; transformations stand around the
    names, as in `jvp(Net)/conv1`.
    """

    equation: JaxprEqn
    path: tuple[int, ...]
    scope: str


Rule = Callable[[Site, Sequence[ArrayLike]], Sequence[ArrayLike] | None]
"""Gives an equation's results from its inputs, or None where the equation is to stay as it is."""
Rules = Mapping[Primitive, Rule]

# Primitives that call a function, which is evaluated in their place.
_CALLS = ("jit", "pjit", "closed_call", "core_call")
_CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
_REMAT = ("remat2", "checkpoint", "remat")


def interpret(fn: Callable, rules: Rules) -> Callable:
    """Returns `fn` with each operation computed by the rule of its primitive, if there is one.

    Rules reach into functions that `fn` calls under `jax.jit`, `jax.checkpoint` or with custom
    derivatives, and into loops and branches. A function with custom derivatives loses them where a
    rule may apply inside of it, and keeps them elsewhere. `fn` takes and returns pytrees of arrays.

    Raises:
        NotImplementedError: an operation with a rule stands inside of a primitive that the
            interpreter cannot enter, such as `shard_map`.
    """

    def interpreted(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        results = _evaluate(closed, jax.tree.leaves(args), rules, (), "")
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return interpreted


def _evaluate(
    function: Jaxpr | ClosedJaxpr,
    args: Sequence[ArrayLike],
    rules: Rules,
    path: tuple[int, ...],
    scope: str,
) -> list[ArrayLike]:
    jaxpr, consts = _opened(function)
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(variable: Any) -> ArrayLike:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for number, equation in enumerate(jaxpr.eqns):
        names = filter(None, (scope, str(equation.source_info.name_stack)))
        site = Site(equation, (*path, number), "/".join(names))
        results = _results(site, [read(variable) for variable in equation.invars], rules)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _results(site: Site, inputs: Sequence[ArrayLike], rules: Rules) -> Sequence[ArrayLike]:
    primitive = site.equation.primitive
    results = rules[primitive](site, inputs) if primitive in rules else None
    if results is not None:
        return results
    if primitive not in rules and _contains(site.equation, rules):
        return _enter(site, inputs, rules)
    if inputs and all(map(_is_known_scalar, inputs)):
        # Rules then see the values of constants.
        with jax.ensure_compile_time_eval():
            return _bind(site.equation, inputs)
    return _bind(site.equation, inputs)


def _bind(equation: JaxprEqn, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = ([], bound) if isinstance(bound, dict) else bound
    results = equation.primitive.bind(*functions, *inputs, **params)
    return results if equation.primitive.multiple_results else [results]


def _enter(site: Site, inputs: Sequence[ArrayLike], rules: Rules) -> Sequence[ArrayLike]:
    """Computes a primitive that holds functions with `rules` inside of them."""
    name, params = site.equation.primitive.name, site.equation.params
    functions = list(_functions(params))

    def evaluate(index: int) -> Callable:
        path = site.path if len(functions) == 1 else (*site.path, index)
        return lambda *args: _evaluate(functions[index], args, rules, path, site.scope)

    if name in (*_CALLS, *_CUSTOM):
        return evaluate(0)(*inputs)
    if name in _REMAT:
        options = {key: params[key] for key in ("prevent_cse", "policy")}
        return jax.checkpoint(evaluate(0), **options)(*inputs)
    if name == "cond":
        branches = [evaluate(index) for index in range(len(functions))]
        return lax.switch(inputs[0], branches, *inputs[1:])
    if name == "while":
        counts = params["cond_nconsts"], params["body_nconsts"]
        of_test, of_body, start = _split(inputs, counts)
        # The order of the parameters is that of their names: the body comes first.
        body, test = evaluate(0), evaluate(1)
        return lax.while_loop(
            lambda carry: test(*of_test, *carry)[0],
            lambda carry: tuple(body(*of_body, *carry)),
            tuple(start),
        )
    if name == "scan":
        consts, start, rows = _split(inputs, (params["num_consts"], params["num_carry"]))

        def step(carry: Any, row: Any) -> tuple[Any, Any]:
            results = evaluate(0)(*consts, *carry, *row)
            return tuple(results[: len(carry)]), tuple(results[len(carry) :])

        options = {key: params[key] for key in ("length", "reverse", "unroll")}
        last, stacked = lax.scan(step, tuple(start), tuple(rows), **options)
        return [*last, *stacked]
    raise NotImplementedError(
        f"{site.scope or 'the function'} computes inside of {name}, which cannot be entered"
    )


def _contains(equation: JaxprEqn, rules: Rules) -> bool:
    inner = (_opened(function)[0] for function in _functions(equation.params))
    return any(e.primitive in rules or _contains(e, rules) for jaxpr in inner for e in jaxpr.eqns)


def _functions(params: Mapping[str, Any]) -> Iterator[Jaxpr | ClosedJaxpr]:
    """The functions that an equation's parameters hold, by the names of the parameters."""
    for _, value in sorted(params.items()):
        several = value if isinstance(value, tuple | list) else (value,)
        yield from (one for one in several if isinstance(one, Jaxpr | ClosedJaxpr))


def _opened(function: Jaxpr | ClosedJaxpr) -> tuple[Jaxpr, Sequence[Any]]:
    return (function, ()) if isinstance(function, Jaxpr) else (function.jaxpr, function.consts)


def _split(values: Sequence[Any], counts: Sequence[int]) -> list[Sequence[Any]]:
    ends = np.cumsum(counts)
    return [values[: ends[0]], values[ends[0] : ends[1]], values[ends[1] :]]


def _is_known_scalar(value: ArrayLike) -> bool:
    return not isinstance(value, jax.core.Tracer) and np.ndim(value) == 0
