"""What padding adds to channels: as by hand, where it reaches, and nothing without padding."""

import jax
import numpy as np
import pytest
from jax import lax
from scipy.signal import correlate2d

from posjax import runtime
from posjax.encoders import frozen, wrap
from posjax.images import open_source, read_pixels
from posjax.ppp.aware import (
    measure_borders,
    padded_convolutions,
    side_of,
)
from posjax.ppp.aware_maps import channel_maps
from posjax.ppp.aware_statistics import aware_channels, border_effects

SIZE, IMAGES = 24, 7
TWO = tuple(runtime.local_devices(2))
TOP = 3  # the channel that sees the top border


def convolve(stride=1, layout="NHWC"):
    """One convolution of 3x3 pixels that pads by one."""

    def fn(kernel, images):
        x = images if layout == "NHWC" else images.transpose(0, 3, 1, 2)
        numbers = (layout, "HWIO", layout)
        y = lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers
        )
        return y if layout == "NHWC" else y.transpose(0, 2, 3, 1)

    return fn


@pytest.fixture(scope="module")
def kernel():
    """Random kernels, and one that takes what is above from what is here."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 16)).astype(np.float32)
    kernel[..., TOP] = 0
    kernel[0, 1, :, TOP], kernel[1, 1, :, TOP] = -1, 1
    return kernel


@pytest.fixture(scope="module")
def source():
    return open_source("dead_leaves", size=SIZE, limit=IMAGES, seed=0)


def encoder_of(kernel, padding="zeros", **how):
    return wrap(convolve(**how), kernel, name="one", padding=padding, image_size=SIZE)


def measured(encoder, source):
    (borders,) = measure_borders(encoder, source, batch_size=4, devices=TWO).values()
    return borders


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("padding", "numpy_mode"), [("zeros", "constant"), ("reflect", "reflect")])
def test_it_is_the_response_to_padding_less_that_to_the_true_surroundings(
    kernel, source, padding, numpy_mode, stride
):
    borders = measured(encoder_of(kernel, padding, stride=stride), source)
    images = np.stack([source[i] for i in range(IMAGES)])
    true = np.zeros((IMAGES, SIZE - 2, SIZE - 2))
    padded = np.zeros_like(true)
    channel = 5
    for i, image in enumerate(images):
        for c in range(3):
            weights = kernel[:, :, c, channel]
            true[i] += correlate2d(image[..., c], weights, "valid")
            # The middle leaves a pixel on each side, or two, which are a stride.
            middle = image[stride:-stride, stride:-stride, c]
            around = correlate2d(np.pad(middle, 1, numpy_mode), weights, "valid")
            padded[i, stride - 1 : SIZE - 1 - stride, stride - 1 : SIZE - 1 - stride] += around
    places = slice(stride - 1, SIZE - 1 - stride, stride)
    true, padded = (x[:, places, places] for x in (true, padded))
    difference = padded - true
    inside = slice(1, -1 if stride == 1 else None)
    top, left = difference[:, 0, inside], difference[:, inside, 0]
    np.testing.assert_allclose(borders.difference[:, 0, channel], top.mean(1), atol=1e-5)
    np.testing.assert_allclose(borders.difference[:, 2, channel], left.mean(1), atol=1e-5)
    if stride == 1:
        bottom = difference[:, -1, inside].mean(1)
        np.testing.assert_allclose(borders.difference[:, 1, channel], bottom, atol=1e-5)
    else:  # on an even map no response of stride 2 sees what lies below and to the right
        assert np.isnan(borders.difference[:, [1, 3]]).all()
    np.testing.assert_allclose(borders.deviation[channel], true.std(), rtol=1e-4)


def test_another_layout_of_axes_gives_the_same(kernel, source):
    one, other = (
        measured(encoder_of(kernel, layout=layout), source) for layout in ("NHWC", "NCHW")
    )
    np.testing.assert_allclose(one.difference, other.difference, atol=1e-5)


def test_a_channel_made_to_see_the_top_border_is_found_there_alone(kernel, source):
    borders = measure_borders(encoder_of(kernel), source, batch_size=4, devices=TWO)
    of_channel = {row.border: row for row in border_effects(borders) if row.channel == TOP}
    assert [border for border, row in of_channel.items() if row.aware] == ["top"]
    assert of_channel["top"].effect > 1
    assert of_channel["bottom"].effect == pytest.approx(0, abs=1e-5)  # nothing is missed below
    channel = (next(iter(borders)), TOP)
    images = np.stack([read_pixels(source, i) for i in range(4)])
    maps = channel_maps(encoder_of(kernel), images, [channel])[channel]
    expected = np.einsum("hwi,nyxi->hw", kernel[..., TOP], images / 255) / images[..., 0].size
    np.testing.assert_allclose(maps.kernel, expected, rtol=1e-4, atol=1e-6)
    assert (maps.padded - maps.true)[0, 1:-1].min() > 0.1
    np.testing.assert_allclose(maps.padded[1:], maps.true[1:], atol=1e-5)


def test_without_padding_there_is_no_channel(source):
    encoder = frozen("vgg8_bn_quarter", padding="valid")
    large = open_source("noise", size=80, limit=5, seed=0)
    borders = measure_borders(encoder, large, batch_size=4, devices=TWO)
    assert borders == {}
    assert border_effects(borders) == []
    assert aware_channels([]) == {}
    assert padded_convolutions(encoder, 80) == []
    assert measure_borders(frozen("pixels"), source, batch_size=4, devices=TWO) == {}


def test_layers_are_those_that_pad_and_small_maps_are_left_out():
    encoder = frozen("vgg8_bn_quarter", padding="circular")
    images = open_source("noise", size=64, limit=5, seed=0)
    borders = measure_borders(encoder, images, batch_size=4, devices=TWO)
    padded = padded_convolutions(encoder, 64)
    assert [name.rpartition("/")[2] for name in padded] == [
        f"features_{i}" for i in (0, 4, 8, 12, 16)
    ]
    # The last map has 4 pixels a side: its middle would have 2.
    assert sorted(borders) == sorted(padded[:-1])
    for values in borders.values():
        assert np.isfinite(values.difference).all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # size, widths, span, stride: pixels of the middle, responses before and after
        ((8, (1, 1), 3, 1), (slice(1, 7), [0], [5])),
        ((8, (1, 1), 3, 2), (slice(2, 6), [0], [])),
        ((9, (1, 1), 3, 2), (slice(2, 7), [0], [2])),
        ((18, (3, 3), 7, 2), (slice(4, 14), [0, 1], [4])),
        ((14, (3, 3), 7, 2), (None, [], [])),
        ((4, (1, 1), 3, 1), (None, [], [])),
    ],
)
def test_the_middle_leaves_what_padding_covers(arguments, expected):
    side = side_of(*arguments)
    pixels, before, after = expected
    if pixels is None:
        assert side is None
        return
    assert side is not None
    assert side.pixels == pixels
    assert np.flatnonzero(side.before).tolist() == before
    assert np.flatnonzero(side.after).tolist() == after


def test_a_layer_in_a_loop_is_left_out_and_those_around_it_are_measured(source):
    def fn(kernels, images):
        with jax.named_scope("first"):
            x = convolve()(kernels[0], images)
        return lax.fori_loop(0, 2, lambda _, y: jax.jit(convolve())(kernels[1], y), x)

    kernels = [np.ones((3, 3, n, 4), np.float32) for n in (3, 4)]
    encoder = wrap(fn, kernels, name="looped", image_size=SIZE)
    assert list(measure_borders(encoder, source, batch_size=4, devices=TWO)) == ["first"]
    assert len(padded_convolutions(encoder, SIZE)) == 2
