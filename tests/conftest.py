"""Eight virtual CPU devices, shapes checked at run time, and numbers for encoders."""

import functools
import os
import shutil
import tempfile
import zlib

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# What is compiled is kept until the end, for all workers and for the programs that tests start.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
KEPT = os.environ["JAX_COMPILATION_CACHE_DIR"] if IS_WORKER else tempfile.mkdtemp("-posjax")
for name, value in {
    "jax_compilation_cache_dir": KEPT,
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    # Most of the time of a test would be that of the compiler.
    "jax_disable_most_optimizations": True,
    # No type widens unseen in our code.
    "jax_numpy_dtype_promotion": "strict",
}.items():
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)

# From here on posjax is imported with its annotations checked.
install_import_hook("posjax", "beartype.beartype")

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


LONG = ("experiments", "training", "colabs", "runs")


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that at the end no worker is left alone with one."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_unconfigure():
    if not IS_WORKER:
        shutil.rmtree(KEPT, ignore_errors=True)


@pytest.fixture(scope="session")
def numbered():
    """Variables of an encoder with every number drawn from PyTorch's name for it."""
    return lambda encoder: _numbers(
        encoder.clone(padding="zeros", pool_padding="lowest", dtype=np.float32)
    )


@functools.cache
def _numbers(encoder):
    images = np.zeros((1, 64, 64, 3), np.float32)
    shapes = flatten_dict(jax.eval_shape(encoder.init, jax.random.key(0), images))
    return unflatten_dict({path: _draw(path, leaf.shape) for path, leaf in shapes.items()})


def _draw(path, shape):
    name = ".".join(path[1:-1]).replace("_", ".") + "." + LEAVES.get(path[-1], path[-1])
    numbers = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) >= 2:
        # PyTorch's layout: outputs, inputs, rows, columns.
        shape = (*shape[:-3:-1], *shape[:-2])
    if path[-1] == "var":
        return numbers.uniform(0.5, 1.5, shape).astype(np.float32)
    if path[-1] == "kernel":
        fan_in = np.prod(shape[1:])
        weight = numbers.standard_normal(shape) * np.sqrt(2 / fan_in)
        return weight.astype(np.float32).transpose((2, 3, 1, 0) if weight.ndim == 4 else (1, 0))
    if path[-1] == "scale":
        return numbers.uniform(0.5, 1.0, shape).astype(np.float32)
    return (0.1 * numbers.standard_normal(shape)).astype(np.float32)
