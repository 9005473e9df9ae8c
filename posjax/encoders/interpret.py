"""An interpreter of jaxprs: a function is computed operation by operation, some by other rules.

See "Writing custom interpreters in JAX" in JAX's documentation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Primitive
from jax.typing import ArrayLike

Rule = Callable[[JaxprEqn, Sequence[ArrayLike]], Sequence[ArrayLike] | None]
"""Gives an equation's results from its inputs, or None where the equation is to stay as it is."""

# The parameter in which a primitive that calls a function holds its jaxpr.
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_INLINED = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint")
_CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


def interpret(fn: Callable, rules: Mapping[Primitive, Rule]) -> Callable:
    """Returns `fn` with each operation computed by the rule of its primitive, if there is one.

    Functions that `fn` calls under `jax.jit`, `jax.checkpoint` or with custom derivatives are
    interpreted too, and lose the custom derivatives. Loops and branches stay as they are.
    `fn` takes and returns pytrees of arrays.
    """

    def interpreted(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        results = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), rules)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return interpreted


def _evaluate(
    jaxpr: Jaxpr,
    consts: Sequence[ArrayLike],
    args: Sequence[ArrayLike],
    rules: Mapping[Primitive, Rule],
) -> list[ArrayLike]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(variable: Any) -> ArrayLike:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        results = _results(equation, inputs, rules)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _results(
    equation: JaxprEqn, inputs: Sequence[ArrayLike], rules: Mapping[Primitive, Rule]
) -> Sequence[ArrayLike]:
    primitive, params = equation.primitive, equation.params
    if primitive.name in (*_INLINED, *_CUSTOM):
        called = next(params[name] for name in _CALLS if name in params)
        inner, consts = (called, []) if isinstance(called, Jaxpr) else (called.jaxpr, called.consts)
        return _evaluate(inner, consts, inputs, rules)
    if primitive in rules:
        results = rules[primitive](equation, inputs)
        if results is not None:
            return results
    bound = primitive.get_bind_params(params)
    functions, bound = ([], bound) if isinstance(bound, dict) else bound
    results = primitive.bind(*functions, *inputs, **bound)
    return results if primitive.multiple_results else [results]
