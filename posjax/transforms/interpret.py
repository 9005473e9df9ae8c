"""An interpreter of jaxprs: a function is computed operation by operation, some by other rules.

See "Writing custom interpreters in JAX" in JAX's documentation.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Primitive
from jax.extend.core.primitives import convert_element_type_p
from jax.typing import ArrayLike


class Site(NamedTuple):
    """An equation and its place in the function.

    `path` are the numbers of the equations that lead to it, from the outermost function inwards.
    `scope` are the named scopes around it, joined by slashes; transformations stand around the
    names, as in `jvp(Net)/conv1`. `is_inner`: it stands in a loop, a branch or a checkpoint, out of
    which no result can be handed.
    """

    equation: JaxprEqn
    path: tuple[int, ...]
    scope: str
    is_inner: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scopes, without the transformations around them."""
        return tuple(filter(None, re.sub(r"\w+\(|\)", "", self.scope).split("/")))


Rule = Callable[[Site, Sequence[ArrayLike]], Sequence[ArrayLike] | None]
"""Gives an equation's results from its inputs, or None where the equation is to stay as it is."""
Rules = Mapping[Primitive, Rule]
Watch = Callable[[Site, Sequence[ArrayLike]], None]

Layer = TypeVar("Layer", bound=str)

# Primitives that call a function, which is evaluated in their place.
_CALLS = ("jit", "pjit", "closed_call", "core_call")
_CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
_REMAT = ("remat2", "checkpoint", "remat")


def interpret(
    fn: Callable, rules: Rules, *, follow: Rules | None = None, watch: Watch | None = None
) -> Callable:
    """Returns `fn` with each operation computed by the rule of its primitive, if there is one.

    Rules reach into functions that `fn` calls under `jax.jit`, `jax.checkpoint` or with custom
    derivatives, and into loops and branches. A function with custom derivatives loses them where a
    rule may apply inside of it, and keeps them elsewhere. `fn` takes and returns pytrees of arrays.

    `follow` are more rules, which apply where they are met: for their sake no function is entered,
    so that none loses its derivatives.

    `watch(site, results)` sees the results of every operation outside of loops and branches. All
    functions with custom derivatives lose them then.

    Raises:
        NotImplementedError: an operation with a rule stands inside of a primitive that the
            interpreter cannot enter, such as `shard_map`.
    """
    interpreter = _Interpreter(rules, {**rules, **(follow or {})}, watch)

    def interpreted(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        results = interpreter.evaluate(closed, jax.tree.leaves(args), (), "")
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return interpreted


@dataclasses.dataclass(frozen=True)
class _Interpreter:
    """`entered` are the rules for whose sake functions are entered, `rules` all of them."""

    entered: Rules
    rules: Rules
    watch: Watch | None
    is_inner: bool = False

    def evaluate(
        self,
        function: Jaxpr | ClosedJaxpr,
        args: Sequence[ArrayLike],
        path: tuple[int, ...],
        scope: str,
    ) -> list[ArrayLike]:
        """The results of a function at a place in the whole."""
        jaxpr, consts = _opened(function)
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(variable: Any) -> ArrayLike:
            return _plain(variable.val if isinstance(variable, Literal) else values[variable])

        for number, equation in enumerate(jaxpr.eqns):
            name = str(equation.source_info.name_stack)
            scopes = "/".join(filter(None, (scope, name)))
            site = Site(equation, (*path, number), scopes, self.is_inner)
            inputs = [read(variable) for variable in equation.invars]
            with jax.named_scope(name) if name else contextlib.nullcontext():
                results = self._results(site, inputs)
            values.update(zip(equation.outvars, results, strict=True))
            if self.watch:
                self.watch(site, results)
        return [read(variable) for variable in jaxpr.outvars]

    def _results(self, site: Site, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
        primitive = site.equation.primitive
        results = self.rules[primitive](site, inputs) if primitive in self.rules else None
        if results is not None:
            return results
        if primitive.name in (*_CALLS, *_CUSTOM, *_REMAT) and self.watch:
            (function,) = _functions(site.equation.params)
            return self.evaluate(function, inputs, site.path, site.scope)
        if _contains(site.equation, self.entered):
            return self._enter(site, inputs)
        if primitive is convert_element_type_p and _is_known_scalar(inputs[0]):
            # Rules then see the values of constants.
            with jax.ensure_compile_time_eval():
                return _bind(site.equation, inputs)
        return _bind(site.equation, inputs)

    def _enter(self, site: Site, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
        """Computes a primitive that holds functions with operations that have a rule."""
        name, params = site.equation.primitive.name, site.equation.params
        functions = list(_functions(params))
        # What is computed in a loop or branch cannot be handed out of it.
        is_inner = self.is_inner or name not in (*_CALLS, *_CUSTOM)
        inner = dataclasses.replace(self, watch=None, is_inner=is_inner)

        def evaluate(index: int) -> Callable:
            path = site.path if len(functions) == 1 else (*site.path, index)
            return lambda *args: inner.evaluate(functions[index], args, path, site.scope)

        if name in (*_CALLS, *_CUSTOM):
            return evaluate(0)(*inputs)
        if name in _REMAT:
            options = {key: params[key] for key in ("prevent_cse", "policy")}
            return jax.checkpoint(evaluate(0), **options)(*inputs)
        if name == "cond":
            branches = [evaluate(index) for index in range(len(functions))]
            return lax.switch(inputs[0], branches, *inputs[1:])
        if name == "while":
            # The body comes first, because parameters are in the order of their names.
            return _while(evaluate(1), evaluate(0), params, inputs)
        if name == "scan":
            return _scan(evaluate(0), site.equation, inputs)
        raise NotImplementedError(
            f"{site.scope or 'the function'} computes inside of {name}, which cannot be entered"
        )


def layers_named(name: str, layers: Sequence[Layer]) -> list[Layer]:
    """The layers of this name, or else those whose names end in it, behind a slash."""
    return [layer for layer in layers if layer == name] or [
        layer for layer in layers if layer.endswith(f"/{name}")
    ]


def _while(
    test: Callable, body: Callable, params: Mapping[str, Any], inputs: Sequence[ArrayLike]
) -> Sequence[ArrayLike]:
    counts = params["cond_nconsts"], params["body_nconsts"]
    of_test, of_body, start = _split(inputs, counts)
    return lax.while_loop(
        lambda carry: test(*of_test, *carry)[0],
        lambda carry: tuple(body(*of_body, *carry)),
        tuple(start),
    )


def _scan(body: Callable, equation: JaxprEqn, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
    # How the parameters count inputs depends on the version of JAX. Rows have an axis more outside.
    (inner,) = (_opened(function)[0] for function in _functions(equation.params))
    rows_in, rows_out = (
        sum(_ndim(outside) != _ndim(inside) for outside, inside in zip(*pair, strict=True))
        for pair in ((equation.invars, inner.invars), (equation.outvars, inner.outvars))
    )
    carried = len(inner.outvars) - rows_out
    consts, start, rows = _split(inputs, (len(inputs) - rows_in - carried, carried))

    def step(carry: Any, row: Any) -> tuple[Any, Any]:
        results = body(*consts, *carry, *row)
        return tuple(results[: len(carry)]), tuple(results[len(carry) :])

    options = {key: equation.params[key] for key in ("length", "reverse", "unroll")}
    last, stacked = lax.scan(step, tuple(start), tuple(rows), **options)
    return [*last, *stacked]


def _bind(equation: JaxprEqn, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = ([], bound) if isinstance(bound, dict) else bound
    results = equation.primitive.bind(*functions, *inputs, **params)
    return results if equation.primitive.multiple_results else [results]


def _contains(equation: JaxprEqn, rules: Rules) -> bool:
    inner = (_opened(function)[0] for function in _functions(equation.params))
    return any(e.primitive in rules or _contains(e, rules) for jaxpr in inner for e in jaxpr.eqns)


def _functions(params: Mapping[str, Any]) -> Iterator[Jaxpr | ClosedJaxpr]:
    """The functions that an equation's parameters hold, by the names of the parameters."""
    for _, value in sorted(params.items()):
        several = value if isinstance(value, tuple | list) else (value,)
        yield from (one for one in several if isinstance(one, Jaxpr | ClosedJaxpr))


def _ndim(variable: Any) -> int:
    return variable.aval.ndim


def _opened(function: Any) -> tuple[Jaxpr, Sequence[Any]]:
    # From jax 0.11 on, there is one class for jaxprs with constants and without.
    return getattr(function, "jaxpr", function), getattr(function, "consts", ())


def _plain(value: Any) -> ArrayLike:
    # Before jax 0.8, some constants are of a type that operations do not take.
    numbers = jax.Array | np.ndarray | np.generic | bool | int | float | complex
    return value if isinstance(value, numbers) else np.asarray(value)


def _split(values: Sequence[Any], counts: Sequence[int]) -> list[Sequence[Any]]:
    ends = np.cumsum(counts)
    return [values[: ends[0]], values[ends[0] : ends[1]], values[ends[1] :]]


def _is_known_scalar(value: ArrayLike) -> bool:
    return not isinstance(value, Tracer) and np.ndim(value) == 0
