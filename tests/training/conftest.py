"""Variables of a small encoder, drawn once for a seed and a head."""

import functools

import jax
import numpy as np
import pytest

from posjax.encoders import create


@pytest.fixture(scope="session")
def resnet20_variables():
    """Random variables of a ResNet-20, by seed and number of classes (None: without a head)."""

    @functools.cache
    def draw(seed, num_classes=2):
        encoder, rng = create("resnet20", num_classes=num_classes), np.random.default_rng(seed)
        images = jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32)
        shapes = jax.eval_shape(encoder.init, jax.random.key(0), images)
        return jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)

    return draw
