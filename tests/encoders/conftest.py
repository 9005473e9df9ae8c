"""Encoders to compile, and what PyTorch computes with the parameters that `numbered` draws."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from posjax.encoders import Padding, layer_modes, with_modes
from posjax.encoders.resnet import ResNet
from posjax.encoders.vgg import VGG

SMALL = {
    "basic": ResNet(blocks=(1, 1)),
    "bottleneck": ResNet(blocks=(1, 1), bottleneck=True),
    "cifar": ResNet(blocks=(1, 1), cifar=True),
    "vgg": VGG(depth=8, batch_norm=True, divisor=4),
}


@pytest.fixture(scope="session")
def recorded():
    """What PyTorch computed: data/make_stages.py says how."""
    return np.load(Path(__file__).parent / "data" / "stages.npz")


@pytest.fixture(scope="session")
def small():
    """Small networks by kind: one of each kind of block and shortcut."""

    def network(kind, padding="zeros", **options):
        return SMALL[kind].clone(padding=padding, **options)

    return network


@pytest.fixture(scope="session")
def encode():
    """Stages as numpy arrays, under the encoder's padding, or under one that is given as data.

    One program serves all paddings that are data.
    """
    # Each network is compiled for few images: little optimisation is the quickest.
    quick = {"xla_backend_optimization_level": 0}

    @functools.partial(jax.jit, static_argnums=0, compiler_options=quick)
    def run(encoder, variables, x, modes):
        encoder = encoder if modes is None else with_modes(encoder, modes)
        return encoder.apply(variables, x)

    def stages(encoder, variables, x, padding=None):
        modes = None if padding is None else layer_modes(encoder, Padding.parse(padding))
        return jax.device_get(run(encoder, variables, x, modes))

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
            points = stages[stage][np.ix_(range(n), ys, xs, np.arange(8) * (channels // 8))]
            np.testing.assert_allclose(points, recorded[f"{case}.{stage}"], rtol=0, atol=1e-4 * std)

    return check


@pytest.fixture(scope="session")
def shapes():
    """Height, width and channels of an encoder's stages, without computing any."""

    def of(encoder, height, width):
        x = jax.ShapeDtypeStruct((1, height, width, 3), np.float32)
        stages = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x)[0], x)
        return {name: stage.shape[1:] for name, stage in stages.items()}

    return of


@pytest.fixture(scope="session")
def images():
    """Uniform images [n, height, width, 3] from a seed."""

    def draw(seed, n, height, width):
        numbers = np.random.default_rng(seed)
        return numbers.uniform(0, 1, (n, height, width, 3)).astype(np.float32)

    return draw
