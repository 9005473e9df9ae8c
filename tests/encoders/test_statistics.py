"""The statistics that images are normalised by."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encoders import STATISTICS, normalised


def test_statistics_are_the_published_ones():
    assert STATISTICS["none"] == ((0, 0, 0), (1, 1, 1))
    assert STATISTICS["imagenet"] == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert STATISTICS["cifar10"] == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_images_of_8_bits_are_normalised_as_their_floats_are(statistics):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    floats = pixels.astype(np.float32) / np.float32(255)
    mean, deviation = map(np.float32, STATISTICS[statistics])
    for images in (pixels, floats):
        normal = normalised(jnp.asarray(images), statistics)
        assert normal.dtype == jnp.float32
        np.testing.assert_allclose(normal, (floats - mean) / deviation, rtol=1e-6, atol=1e-6)
