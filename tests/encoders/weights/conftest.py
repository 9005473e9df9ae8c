"""Random variables and files of weights."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posjax.encoders import create


@pytest.fixture(scope="session")
def variables_of():
    """Random numbers in the tree that `init` gives."""

    @functools.cache
    def draw(name, num_classes=None):
        images = np.zeros((1, 64, 64, 3), np.float32)
        tree = jax.eval_shape(create(name, num_classes=num_classes).init, jax.random.key(0), images)
        leaves, structure = jax.tree.flatten(tree)
        numbers = np.random.default_rng(0)
        return structure.unflatten(numbers.random(leaf.shape, np.float32) for leaf in leaves)

    return draw


@pytest.fixture(scope="session")
def state_dict_of():
    """PyTorch's names and layouts, written out independently of the code under test."""

    def convert(variables):
        state = {}
        for path, array in flatten_dict(variables, sep="/").items():
            collection, *modules, leaf = path.split("/")
            key = ".".join(modules).replace("_", ".")
            if leaf == "kernel":
                axes = "hwio->oihw" if array.ndim == 4 else "io->oi"
                state[f"{key}.weight"] = np.ascontiguousarray(np.einsum(axes, array))
            elif collection == "batch_stats":
                state[f"{key}.running_{leaf}"] = array
                state[f"{key}.num_batches_tracked"] = np.array(7)
            else:
                state[f"{key}.{'weight' if leaf == 'scale' else leaf}"] = array
        return state

    return convert


@pytest.fixture(scope="session")
def same():
    """Checks that two trees have the same structure, numbers and types."""

    def check(tree, expected):
        assert jax.tree.structure(tree) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype

    return check
