"""Alignments: padded and unpadded encoders give responses that are centred on the same pixels."""

import numpy as np
import pytest

from posjax import encoders
from posjax.encoders import Padding, ReceptiveField, blocks
from posjax.encoders.aligned import AlignedEncoder, aligned_margins
from posjax.layers import InputTooSmall

PUBLISHED = {"vgg11": 134, "vgg16": 196, "resnet18": 435, "resnet50": 427, "resnet20": 81}
kinds = pytest.mark.parametrize("kind", ["vgg", "cifar"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_receptive_fields_are_the_published_ones(name):
    fields = encoders.create(name).receptive_fields()
    assert max(field.size for field in fields.values()) == PUBLISHED[name]


def test_the_receptive_field_is_the_smallest_unpadded_image():
    assert blocks.smallest_image(encoders.create("vgg11", padding="valid")) == PUBLISHED["vgg11"]


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "cifar", "vgg"])
def test_receptive_fields_have_the_strides_of_the_stages(kind, small, shapes):
    heights = [height for height, _, _ in shapes(small(kind), 64, 64).values()]
    fields = small(kind).receptive_fields().values()
    assert heights == [64 // field.stride for field in fields]


@pytest.fixture
def stages_of(kind, small, numbered, encode):
    """Stages of images under a padding and an alignment."""

    def encoded(mode, images, alignment=""):
        network = small(kind, Padding(mode))
        aligned = AlignedEncoder(network, alignment) if alignment else network
        return encode(aligned, numbered(small(kind)), images)

    return encoded


def assert_equal_inside(one, other, reached):
    """Responses are equal but for `reached` at each side."""
    inside = slice(reached, one.shape[1] - reached)
    if inside.start < inside.stop:
        one, other = one[:, inside, inside], other[:, inside, inside]
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.std(other))


@kinds
def test_cropped_padded_maps_are_the_unpadded_ones_where_no_padding_reaches(
    kind, stages_of, small, images
):
    # Responses stay in the middle which no padding reaches.
    x = images(0, 1, 96, 96)
    padded, unpadded = (stages_of(mode, x, "cropped") for mode in ("zeros", "valid"))
    plain = stages_of("zeros", x)
    for stage, field in small(kind).receptive_fields().items():
        values = padded[stage]
        assert values.shape == unpadded[stage].shape
        cropped = (plain[stage].shape[1] - values.shape[1]) // 2
        reached = max(-(-field.reach // field.stride) - cropped, 0) + 1
        assert_equal_inside(values, unpadded[stage], reached)
    # The first stage is compared in any case.
    assert padded["f1"].shape[1] > 40


@kinds
def test_enlarged_unpadded_maps_are_the_padded_ones_where_no_padding_reaches(
    kind, stages_of, small, images
):
    fields = small(kind).receptive_fields()
    before, behind = aligned_margins(fields, "enlarged")
    side = before + behind + 64
    x = images(0, 1, side, side)
    padded, unpadded = (stages_of(mode, x, "enlarged") for mode in ("zeros", "valid"))
    plain = stages_of("zeros", x[:, before : side - behind, before : side - behind])
    for stage, field in fields.items():
        values = padded[stage]
        np.testing.assert_allclose(values, plain[stage], rtol=1e-4, atol=1e-5)
        assert values.shape == unpadded[stage].shape
        assert_equal_inside(values, unpadded[stage], -(-field.reach // field.stride))
        assert np.abs(values[:, 0] - unpadded[stage][:, 0]).max() > 1e-3


def test_vgg16_at_224_by_hand(shapes):
    def sides(padding, size):
        encoder = encoders.create("vgg16", padding=padding)
        return [height for height, _, _ in shapes(encoder, size, size).values()]

    # Six pixels are taken from the image, so that all pools of both take the same pixels together:
    # 218 pixels without padding, whose second and third maps are odd and lose a row in the pool.
    assert sides("valid@cropped", 224) == sides("zeros@cropped", 224) == [214, 103, 45, 16, 2]
    assert encoders.margins("vgg16", encoders.Padding.parse("zeros@enlarged")) == (90, 90)
    assert sides("valid@enlarged", 404) == sides("zeros", 224) == [224, 112, 56, 28, 14]


def test_images_too_small_for_an_alignment_are_refused_with_the_smallest_size(shapes):
    with pytest.raises(InputTooSmall, match="no middle within surroundings"):
        shapes(encoders.create("vgg11", padding="zeros@enlarged"), 100, 100)
    # Five pixels are taken away before the 134 that VGG-11 needs without padding.
    with pytest.raises(InputTooSmall, match=r"100x100 are too small.* works is 139x139"):
        shapes(encoders.create("vgg11", padding="reflect@cropped"), 100, 100)


def test_receptive_fields_that_never_meet_are_refused():
    fields = {"a": ReceptiveField(2, 0, 1), "b": ReceptiveField(2, 1, 1)}
    with pytest.raises(ValueError, match="never lie on the same pixels"):
        aligned_margins(fields, "enlarged")
