"""PPP of encoders: where padding reaches and nowhere else, none without padding."""

import jax
import numpy as np
import pytest

from posjax.images import open_source
from posjax import runtime
from posjax.runs import freeze
from posjax.ppp.measure import Geometry, geometry, patterns

MODES = ("zeros", "reflect", "valid")
IMAGES = 6
ONE = runtime.local_devices(1)


@pytest.fixture(scope="module")
def where():
    return geometry("resnet20", 84)


@pytest.fixture(scope="module")
def source(where):
    return open_source("dead_leaves", size=where.image_size, limit=IMAGES, seed=0)


@pytest.fixture(scope="module")
def found(where, source):
    frozen = [freeze("resnet20", "random", mode, seed=0) for mode in MODES]
    several = patterns(frozen, source, where, batch_size=2, devices=ONE)
    return dict(zip(MODES, several, strict=True))


def test_the_margin_is_a_multiple_of_the_strides_and_no_less_than_the_receptive_field(where):
    # ResNet-20: 81 pixels by hand, strides 1, 1, 2, 4.
    assert where == Geometry(84, 84, (("f1", 1), ("f2", 1), ("f3", 2), ("f4", 4)))
    assert where.image_size == 252
    vgg = geometry("vgg16", 224)
    assert (vgg.margin, vgg.strides[-1]) == (208, ("f5", 16))


def test_it_is_the_mean_difference_of_the_features(found, where, source):
    images = np.stack([source[i] for i in range(IMAGES)])
    frozen = freeze("resnet20", "random", "zeros", seed=0)
    apply = jax.jit(frozen.module.apply)
    crops = images[:, 84:168, 84:168]
    padded, whole = apply(frozen.variables, crops), apply(frozen.variables, images)
    for stage, stride in where.strides:
        start, size = 84 // stride, 84 // stride
        true = np.asarray(whole[stage])[:, start : start + size, start : start + size]
        difference = np.asarray(padded[stage]) - true
        expected = np.abs(difference.mean(axis=0)).mean(axis=-1) / true.std()
        np.testing.assert_allclose(found["zeros"][stage].map, expected, atol=2e-5)


def test_without_padding_there_is_none(found):
    for pattern in found["valid"].values():
        assert pattern.map.max() < 1e-5
        assert pattern.magnitude.value < 1e-5


def test_padding_shows_where_it_reaches(found):
    for mode in ("zeros", "reflect"):
        first = found[mode]["f1"].map
        assert first[0].min() > 1e-3
        assert first[1:-1, 1:-1].max() < 1e-5  # one convolution of 3x3 pixels
        deep = found[mode]["f4"].map
        assert deep[0].mean() > 2 * deep[10].mean()
    zeros, reflect = (found[mode]["f4"].magnitude.value for mode in ("zeros", "reflect"))
    assert zeros > reflect


def test_eight_devices_find_the_same(found, where, source):
    frozen = [freeze("resnet20", "random", "zeros", seed=0)]
    devices = runtime.local_devices(8)
    (again,) = patterns(frozen, source, where, batch_size=8, devices=devices)
    for stage, pattern in again.items():
        np.testing.assert_allclose(pattern.map, found["zeros"][stage].map, atol=1e-5)


def test_other_weights_and_too_few_images_are_refused(where, source):
    zeros, other = (freeze("resnet20", "random", "zeros", seed=seed) for seed in (0, 1))
    with pytest.raises(ValueError, match="same weights"):
        patterns([zeros, other], source, where, batch_size=2, devices=ONE)
    few = open_source("noise", size=where.image_size, limit=4, seed=0)
    with pytest.raises(ValueError, match=r"--num_train.*5 images or more, found 4"):
        patterns([zeros], few, where, batch_size=2, devices=ONE)
