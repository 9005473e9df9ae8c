"""Variables of a small encoder, drawn once for a seed and a head."""

import functools

import jax
import jax.numpy as jnp
import pytest

from posjax.encoders import create


@pytest.fixture(scope="session")
def resnet20_variables():
    """Random variables of a ResNet-20, by seed and number of classes (None: without a head)."""

    @functools.cache
    def draw(seed, num_classes=2):
        init = jax.jit(create("resnet20", num_classes=num_classes).init)
        return jax.device_get(init(jax.random.key(seed), jnp.zeros((1, 16, 16, 3))))

    return draw
