"""Views: padded and unpadded encoders give responses that are centred on the same pixels."""

import jax
import numpy as np
import pytest

from posjax import encoders
from posjax.encoders import aligned as matched
from posjax.encoders import blocks
from posjax.layers import InputTooSmall

PUBLISHED = {"vgg11": 134, "vgg16": 196, "resnet18": 435, "resnet50": 427, "resnet20": 81}
# The image: the smallest that leaves responses in the middle which no padding reaches.
CASES = [("vgg11", 160), ("resnet20", 112), ("resnet18", 448)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_receptive_field_is_the_smallest_image_without_padding(name):
    receptive_fields = encoders.create(name).receptive_fields()
    assert max(stage.field for stage in receptive_fields.values()) == PUBLISHED[name]
    assert blocks.smallest_image(encoders.create(name, padding="valid")) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["vgg16", "resnet20", "resnet50"])
def test_strides_are_those_of_the_stages_shapes(name):
    encoder = encoders.create(name)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), np.float32)
    stages = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x)[0], image)
    receptive_fields = encoder.receptive_fields()
    assert {k: 256 // x.shape[1] for k, x in stages.items()} == {
        k: stage.stride for k, stage in receptive_fields.items()
    }


def stages_of(name, padding, images, variables):
    return jax.device_get(jax.jit(encoders.create(name, padding=padding).apply)(variables, images))


@pytest.fixture(scope="module", params=CASES, ids=[name for name, _ in CASES])
def case(request):
    name, size = request.param
    images = np.random.default_rng(0).random((1, size, size, 3), np.float32)
    variables = encoders.create(name).init(jax.random.key(0), images[:, :64, :64])
    return name, images, variables


def test_cropped_padded_maps_are_the_unpadded_ones_where_no_padding_reaches(case):
    name, images, variables = case
    receptive_fields = encoders.create(name).receptive_fields()
    padded, unpadded = (
        stages_of(name, f"{mode}@cropped", images, variables) for mode in ("zeros", "valid")
    )
    plain = stages_of(name, "zeros", images, variables)
    for stage, x in padded.items():
        assert x.shape == unpadded[stage].shape
        stride, reach, _ = receptive_fields[stage]
        # How many responses at each side of the kept ones padding still reaches.
        reached = max(-(-reach // stride) - (plain[stage].shape[1] - x.shape[1]) // 2, 0) + 1
        inside = slice(reached, x.shape[1] - reached)
        if inside.start < inside.stop:
            np.testing.assert_allclose(
                x[:, inside, inside], unpadded[stage][:, inside, inside], rtol=1e-4, atol=1e-4
            )
    # The first stage is compared in any case.
    assert padded["f1"].shape[1] > 40


def test_enlarged_unpadded_maps_are_the_padded_ones_where_no_padding_reaches(case):
    name, images, variables = case
    receptive_fields = encoders.create(name).receptive_fields()
    before, behind = encoders.margins(name, "valid@enlarged")
    if images.shape[1] - before - behind < 64:
        side = before + behind + 64
        images = np.random.default_rng(1).random((1, side, side, 3), np.float32)
    padded, unpadded = (
        stages_of(name, f"{mode}@enlarged", images, variables) for mode in ("zeros", "valid")
    )
    middle = images[:, before : images.shape[1] - behind, before : images.shape[1] - behind]
    plain = stages_of(name, "zeros", middle, variables)
    for stage, x in padded.items():
        np.testing.assert_allclose(x, plain[stage], rtol=1e-4, atol=1e-5)
        assert x.shape == unpadded[stage].shape
        reached = -(-receptive_fields[stage].reach // receptive_fields[stage].stride)
        inside = slice(reached, x.shape[1] - reached)
        if inside.start < inside.stop:
            np.testing.assert_allclose(
                x[:, inside, inside], unpadded[stage][:, inside, inside], rtol=1e-4, atol=1e-4
            )
        assert np.abs(x[:, 0] - unpadded[stage][:, 0]).max() > 1e-3


def test_vgg16_at_224_by_hand():
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)

    def sides(padding, image):
        module = encoders.create("vgg16", padding=padding)
        shapes = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x)[0], image)
        return [x.shape[1] for x in shapes.values()]

    # Six pixels are taken from the image, so that all pools of both take the same pixels together:
    # 218 pixels without padding, whose second and third maps are odd and lose a row in the pool.
    assert sides("valid@cropped", image) == sides("zeros@cropped", image) == [214, 103, 45, 16, 2]
    assert encoders.margins("vgg16", "zeros@enlarged") == (90, 90)
    around = jax.ShapeDtypeStruct((1, 404, 404, 3), np.float32)
    assert sides("valid@enlarged", around) == sides("zeros", image) == [224, 112, 56, 28, 14]


def test_views_are_refused_where_they_mean_nothing():
    for padding, told in {
        "zeros@small": "names no view",
        "zeros@": "names no view",
        "valid+features.0=zeros@cropped": "choose one",
        "zeros@cropped@cropped": "names no view",
    }.items():
        with pytest.raises(ValueError, match=told):
            encoders.create("vgg11", padding=padding)
    with pytest.raises(ValueError, match="names no view of pixels"):
        encoders.create("pixels", padding="zeros@cropped")
    with pytest.raises(ValueError, match="no classifier head"):
        encoders.create("vgg11", padding="zeros@cropped", num_classes=10)
    with pytest.raises(ValueError, match="pools pad as its convolutions"):
        encoders.create("resnet18", padding="zeros@cropped", pool_padding="lowest")
    small = encoders.create("vgg11", padding="zeros@enlarged")
    with pytest.raises(InputTooSmall, match="no middle within surroundings"):
        small.init(jax.random.key(0), np.zeros((1, 100, 100, 3), np.float32))
    # Five pixels are taken away before the 134 that VGG-11 needs without padding.
    cropped = encoders.create("vgg11", padding="reflect@cropped")
    with pytest.raises(InputTooSmall, match=r"100x100 are too small.* works is 139x139"):
        cropped.init(jax.random.key(0), np.zeros((1, 100, 100, 3), np.float32))


def test_an_unaligned_lattice_is_refused():
    receptive_fields = {"a": blocks.ReceptiveField(2, 0, 1), "b": blocks.ReceptiveField(2, 1, 1)}
    with pytest.raises(ValueError, match="never lie on the same pixels"):
        matched.margins(receptive_fields, "enlarged")
