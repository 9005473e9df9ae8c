"""ResNets: PyTorch's stages, logits and training step, and unpadded blocks that align."""

import jax
import numpy as np
import pytest

from posjax.encoders import create
from posjax.encoders.resnet import ResNet

QUICK = {"xla_backend_optimization_level": 0}
# Under `valid`: the pixel on which the first response of each stage is centred, moved by half of
# each kernel in pixels as wide as the strides before it; and the stride of each stage.
CENTRES = {
    "basic": ((3, 5 + 8, 13 + 4 + 8), (2, 4, 8)),
    "bottleneck": ((3, 5 + 4, 9 + 4), (2, 4, 8)),
    "cifar": ((1, 1 + 2, 3 + 1 + 2), (1, 1, 2)),
}
CIFAR_IMAGES = (5, 2, 40, 33)


@pytest.mark.parametrize(
    ("name", "mode", "image"),
    [
        ("resnet18", "zeros", (3, 1, 64, 97)),
        ("resnet20", "zeros", CIFAR_IMAGES),
        ("resnet20", "reflect", CIFAR_IMAGES),
    ],
)
def test_stages_are_those_of_pytorch(name, mode, image, encode, numbered, images, matches):
    encoder = create(name, padding=mode, pool_padding="lowest")
    matches(encode(encoder, numbered(encoder), images(*image)), f"{name}_{mode}")


def test_stages_under_modes_as_integers_are_those_of_pytorch(encode, numbered, images, matches):
    encoder = create("resnet50", pool_padding="lowest")
    variables, x = numbered(encoder), images(2, 1, 64, 97)
    for mode in ("zeros", "reflect", "replicate", "circular"):
        matches(encode(encoder, variables, x, mode), f"resnet50_{mode}")


def logits_of(encoder):
    return jax.jit(lambda v, x: encoder.apply(v, x, method="logits"), compiler_options=QUICK)


def test_logits_are_those_of_pytorch(numbered, images, recorded):
    encoder = create("resnet20", num_classes=10)
    values = logits_of(encoder)(numbered(encoder), images(*CIFAR_IMAGES))
    np.testing.assert_allclose(values, recorded["resnet20.logits"], atol=1e-4)


def test_a_training_step_is_that_of_pytorch(numbered, images, recorded):
    encoder = create("resnet20", num_classes=10)
    step = jax.jit(
        lambda v, x: encoder.apply(v, x, train=True, mutable=["batch_stats"]),
        compiler_options=QUICK,
    )
    stages, changed = step(numbered(encoder), images(*CIFAR_IMAGES))
    np.testing.assert_allclose(stages["f4"], recorded["resnet20.train.f4"], atol=2e-4)
    for norm in ("bn1", "layer2.0.bn1", "layer3.2.bn2"):
        statistics = changed["batch_stats"]
        for part in norm.replace(".", "_", 1).split("."):
            statistics = statistics[part]
        for name in ("mean", "var"):
            expected = recorded[f"resnet20.train.{norm}.{name}"]
            np.testing.assert_allclose(statistics[name], expected, rtol=1e-4, atol=1e-5)


def test_imagenet_logits_are_the_mean_of_the_last_stage_through_a_dense_layer(
    small, encode, numbered, images
):
    encoder = small("basic", num_classes=7)
    variables, x = numbered(encoder), images(0, 1, 33, 64)
    last = encode(encoder, variables, x)["f3"]
    dense = variables["params"]["fc"]
    expected = last.mean((1, 2)) @ dense["kernel"] + dense["bias"]
    logits = logits_of(encoder)(variables, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", CENTRES)
def test_unpadded_responses_are_those_of_a_padded_network_on_the_same_pixels(
    kind, small, encode, numbered, images
):
    network, (centres, strides) = small(kind), CENTRES[kind]
    variables = numbered(network)
    smallest = 2 * centres[-1] + 1
    # Strides that do not divide leave rows unused at the end, and none at the start.
    x = images(0, 1, smallest + strides[-1] + 1, smallest + 2 * strides[-1] + 1)
    unpadded = encode(small(kind, "valid"), variables, x)
    assert unpadded[f"f{len(strides)}"].shape[1:3] == (2, 3)
    # More rows and columns before the image bring its centres onto those of zero padding.
    more = -centres[-1] % strides[-1]
    wider = np.concatenate([images(1, 1, more, x.shape[2]), x], 1)
    wider = np.concatenate([images(2, 1, wider.shape[1], more), wider], 2)
    padded = encode(network, variables, wider)
    for i, (centre, stride) in enumerate(zip(centres, strides, strict=True)):
        stage = unpadded[f"f{i + 1}"]
        assert (centre + more) % stride == 0
        first = (centre + more) // stride
        height, width = stage.shape[1:3]
        there = padded[f"f{i + 1}"][:, first : first + height, first : first + width]
        np.testing.assert_allclose(stage, there, rtol=1e-4, atol=1e-4 * there.std())


@pytest.mark.parametrize(("kind", "pixel"), [("basic", 4), ("cifar", 1)])
@pytest.mark.parametrize(("layer", "lost"), [("conv1", 1), ("conv2", 2)])
def test_one_unpadded_convolution_keeps_the_shortcut_of_its_block_aligned(
    kind, pixel, layer, lost, small, encode, numbered, images
):
    network = small(kind)
    variables, x = numbered(network), images(0, 1, 96, 104)
    unpadded = encode(small(kind, f"zeros+layer2.0.{layer}=valid"), variables, x)["f3"]
    # The block strides by two pixels of its input, each as wide as `pixel` pixels of the image.
    more = lost % 2 * pixel
    wider = np.pad(x, ((0, 0), (more, 0), (more, 0), (0, 0)))
    padded = encode(network, variables, wider)["f3"]
    # Of ImageNet's 12 x 13 responses these are far from the border.
    here, there = unpadded[:, 4:7, 4:7], padded[:, 5:8, 5:8]
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4 * there.std())


def test_the_pool_pads_as_the_convolutions_do_unless_it_has_a_mode(encode, numbered, images):
    network = ResNet(blocks=(1,), padding="circular")
    variables, x = numbered(network), images(0, 1, 40, 40)

    def pooled(pool_padding=None):
        encoder = network.clone(pool_padding=pool_padding)
        return encode(encoder, variables, x)["f2"]

    np.testing.assert_array_equal(pooled(), pooled("circular"))
    np.testing.assert_array_equal(pooled("lowest"), pooled("zeros"))
    assert np.abs(pooled() - pooled("lowest")).max() > 0.01
