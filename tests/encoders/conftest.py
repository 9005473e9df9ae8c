"""Numbers for encoders: drawn from PyTorch's names, and what PyTorch computed with them."""

import functools
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@pytest.fixture(scope="session")
def recorded():
    """What PyTorch computed: data/make_stages.py says how."""
    return np.load(Path(__file__).parent / "data" / "stages.npz")


@pytest.fixture(scope="session")
def numbered():
    """Variables of an encoder with every number drawn from PyTorch's name for it."""
    return lambda encoder: _numbers(
        encoder.clone(padding="zeros", pool_padding="lowest", dtype=np.float32)
    )


@pytest.fixture(scope="session")
def encode():
    """Stages by a jitted encoder as numpy arrays, or some of them, the later ones left out."""

    # Each network is compiled for few images: little optimisation is the quickest.
    quick = {"xla_backend_optimization_level": 0}

    @functools.partial(jax.jit, static_argnums=(0, 3), compiler_options=quick)
    def run(encoder, variables, x, only):
        stages = encoder.apply(variables, x)
        return {name: stages[name] for name in only or stages}

    def stages(encoder, variables, x, only=()):
        return jax.tree.map(np.asarray, run(encoder, variables, x, tuple(only)))

    return stages


@pytest.fixture(scope="session")
def matches(recorded):
    """Checks stages against PyTorch's to 1e-4 of their spread: the points of make_stages.py."""

    def check(stages, case):
        shapes = [tuple(shape) for shape in recorded[f"{case}.shapes"]]
        assert [stages[f"f{i + 1}"].shape for i in range(len(stages))] == shapes
        for stage, std in zip(sorted(stages), recorded[f"{case}.std"], strict=True):
            n, height, width, channels = stages[stage].shape
            ys, xs = (
                sorted({0, 1, 2, s // 3, s // 2, s - 2, s - 1} & {*range(s)})
                for s in (height, width)
            )
            found = stages[stage][np.ix_(range(n), ys, xs, np.arange(8) * (channels // 8))]
            np.testing.assert_allclose(found, recorded[f"{case}.{stage}"], rtol=0, atol=1e-4 * std)

    return check


@pytest.fixture(scope="session")
def images():
    """Uniform images [n, height, width, 3] from a seed."""

    def draw(seed, n, height, width):
        numbers = np.random.default_rng(seed)
        return numbers.uniform(0, 1, (n, height, width, 3)).astype(np.float32)

    return draw


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
