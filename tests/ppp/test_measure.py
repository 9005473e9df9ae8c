"""PPP of encoders: where padding reaches and nowhere else, none without padding."""

import jax
import numpy as np
import pytest

from posjax import runtime
from posjax.encoders import frozen
from posjax.images import open_source
from posjax.ppp.measure import Geometry, crop_geometry, patterns

ENCODER = "vgg8_bn_quarter"
MODES = ("zeros", "reflect", "valid")
IMAGES = 6
TWO = runtime.local_devices(2)


@pytest.fixture(scope="module")
def geometry():
    return crop_geometry(ENCODER, 80)


@pytest.fixture(scope="module")
def source(geometry):
    return open_source("dead_leaves", size=geometry.image_size, limit=IMAGES, seed=0)


@pytest.fixture(scope="module")
def measured(geometry, source):
    """Padding is data under the modes that keep the size; two devices share a batch."""
    encoders = [frozen(ENCODER, padding=mode) for mode in MODES]
    encoders = [*(encoder.with_padding_as_data() for encoder in encoders[:2]), encoders[2]]
    by_mode = patterns(encoders, source, geometry, batch_size=2, devices=TWO)
    return dict(zip(MODES, by_mode, strict=True))


def test_the_margin_is_a_multiple_of_the_strides_and_no_less_than_the_receptive_field():
    # ResNet-20: 81 pixels by hand, strides 1, 1, 2, 4.
    resnet = crop_geometry("resnet20", 84)
    assert resnet == Geometry(84, 84, (("f1", 1), ("f2", 1), ("f3", 2), ("f4", 4)))
    assert resnet.image_size == 252
    vgg = crop_geometry("vgg16", 224)
    assert (vgg.margin, vgg.strides[-1]) == (208, ("f5", 16))


def test_it_is_the_mean_difference_of_the_features(measured, geometry, source):
    images = np.stack([source[i] for i in range(IMAGES)])
    encoder = frozen(ENCODER)
    apply = jax.jit(encoder.network.apply)
    start, end = geometry.margin, geometry.margin + geometry.crop
    padded = apply(encoder.variables, images[:, start:end, start:end])
    whole = apply(encoder.variables, images)
    for stage, stride in geometry.strides:
        inside = slice(start // stride, end // stride)
        true = np.asarray(whole[stage])[:, inside, inside]
        difference = np.asarray(padded[stage]) - true
        expected = np.abs(difference.mean(axis=0)).mean(axis=-1) / true.std()
        np.testing.assert_allclose(measured["zeros"][stage].map, expected, atol=2e-5)


def test_without_padding_there_is_none(measured):
    for pattern in measured["valid"].values():
        assert pattern.map.max() < 1e-5
        assert pattern.magnitude[0] < 1e-5


def test_padding_shows_where_it_reaches(measured):
    for mode in ("zeros", "reflect"):
        first = measured[mode]["f1"].map
        assert first[0].mean() > 1e-3
        assert first[1:-1, 1:-1].max() < 1e-5  # one convolution of 3x3 pixels
        deep = measured[mode]["f3"].map
        assert deep[0].mean() > 2 * deep[len(deep) // 2].mean()
    zeros, reflect = (measured[mode]["f3"].magnitude[0] for mode in ("zeros", "reflect"))
    assert zeros > reflect


def test_other_weights_and_too_few_images_are_refused(geometry, source):
    zeros, other = (frozen(ENCODER, seed=seed) for seed in (0, 1))
    with pytest.raises(ValueError, match="same weights"):
        patterns([zeros, other], source, geometry, batch_size=2, devices=TWO)
    few = open_source("noise", size=geometry.image_size, limit=4, seed=0)
    with pytest.raises(ValueError, match=r"^num_train.*5 images or more, not 4"):
        patterns([zeros], few, geometry, batch_size=2, devices=TWO)
