"""The interpreter of jaxprs: the same function, but for the operations that rules replace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from posjax.transforms.interpret import interpret

X = np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4)


def loop(x):
    return lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) + i, x)


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))

FUNCTIONS = {
    "operations": lambda x: jnp.tanh(x) @ x.T + 1,
    "jit": jax.jit(lambda x: jnp.sin(x) * 2),
    "relu": lambda x: jax.nn.relu(jnp.sin(x)),
    "custom vjp": lambda x: doubled(jnp.sin(x)),
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) ** 2),
    "loop": loop,
    "scan": lambda x: lax.scan(lambda c, row: (c + jnp.sin(row), c), x[0], x),
    "branch": lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "pytree": lambda x: {"a": [x, jnp.sin(x)], "b": (x.sum(),)},
    "sort": lambda x: jnp.argsort(jnp.sin(x), axis=1),
}


def same(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_rules_a_function_is_itself(name):
    fn = FUNCTIONS[name]
    same(jax.jit(interpret(fn, {}))(X), fn(X))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("jit", 2 * np.cos(X)),
        ("relu", np.maximum(np.cos(X), 0)),
        ("custom vjp", 2 * np.cos(X)),
        ("checkpoint", np.cos(X) ** 2),
    ],
)
def test_a_rule_replaces_its_operation_inside_of_calls(name, expected):
    cosine = {lax.sin_p: lambda _, inputs: [jnp.cos(inputs[0])]}
    same(interpret(FUNCTIONS[name], cosine)(X), expected)


def test_a_rule_that_gives_nothing_leaves_the_operation():
    same(interpret(jnp.sin, {lax.sin_p: lambda *_: None})(X), jnp.sin(X))


def test_it_composes_with_grad_vmap_and_what_is_traced_around_it():
    def fn(x, scale):
        return interpret(lambda x: jnp.sum(jnp.sin(x) * scale), {})(x)

    gradient = jax.jit(jax.grad(fn))(X, 3.0)
    np.testing.assert_allclose(gradient, 3 * np.cos(X), rtol=1e-5)
    rows = jax.vmap(functools.partial(fn, scale=2.0))(X)
    np.testing.assert_allclose(rows, 2 * np.sin(X).sum(axis=1), rtol=1e-5)
