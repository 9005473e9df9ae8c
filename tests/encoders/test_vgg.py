"""VGG: PyTorch's stages, and a head that pools and flattens as PyTorch's."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encoders import create
from posjax.encoders.vgg import VGG, adaptive_average
from posjax.layers import InputTooSmall

QUICK = {"xla_backend_optimization_level": 0}


@pytest.mark.parametrize(
    ("name", "mode", "image"),
    [
        ("vgg16", "valid", (1, 1, 200, 213)),
        ("vgg11_bn", "zeros", (4, 2, 48, 65)),
    ],
)
def test_stages_are_those_of_pytorch(name, mode, image, encode, numbered, images, matches):
    encoder = create(name, padding=mode)
    matches(encode(encoder, numbered(encoder), images(*image)), f"{name}_{mode}")


def test_stages_under_modes_as_integers_are_those_of_pytorch(encode, numbered, images, matches):
    encoder = create("vgg16")
    variables, x = numbered(encoder), images(1, 1, 48, 65)
    for mode in ("zeros", "reflect", "replicate", "circular"):
        matches(encode(encoder, variables, x, mode), f"vgg16_{mode}")


@pytest.mark.parametrize("size", [(1, 3), (5, 7), (8, 13)])
def test_adaptive_average_is_that_of_pytorch(size, images, recorded):
    average = jax.jit(adaptive_average, static_argnums=1)(images(6, 1, *size), 7)
    expected = recorded["adaptive.{}x{}".format(*size)]
    np.testing.assert_allclose(average, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def head(numbered):
    """A head with hidden units that each read one place of the pooled f5, and its variables."""
    encoder = VGG(depth=8, divisor=4, num_classes=3)
    variables = copy.deepcopy(numbered(VGG(depth=8, divisor=4)))
    # Channel, row, column: PyTorch flattens [128, 7, 7].
    chosen = [(0, 0, 0), (3, 1, 5), (127, 6, 6)]
    kernels = [np.zeros(shape, np.float32) for shape in ((6272, 4096), (4096, 4096), (4096, 3))]
    for unit, (channel, row, column) in enumerate(chosen):
        kernels[0][channel * 49 + row * 7 + column, unit] = 1
        kernels[1][unit, unit] = kernels[2][unit, unit] = 1
    biases = [np.zeros(4096, np.float32), np.zeros(4096, np.float32), np.float32([1, 2, 3])]
    for i, kernel, bias in zip((0, 3, 6), kernels, biases, strict=True):
        variables["params"][f"classifier_{i}"] = {"kernel": kernel, "bias": bias}
    return encoder, variables, chosen


def logits_of(encoder, **options):
    def logits(variables, x):
        return encoder.apply(variables, x, method="logits", **options)

    return jax.jit(logits, compiler_options=QUICK)


def test_logits_read_the_pooled_last_stage_channels_first(head, encode, images):
    encoder, variables, chosen = head
    x = images(0, 2, 64, 96)
    f5 = encode(encoder, variables, x)["f5"]
    assert f5.shape == (2, 4, 6, 128)
    averaged = adaptive_average(f5.reshape(2, 2, 2, 3, 2, 128).max((2, 4)), 7)
    expected = np.stack([averaged[:, row, column, channel] for channel, row, column in chosen], 1)
    logits = logits_of(encoder)(variables, x)
    np.testing.assert_allclose(logits, expected + np.float32([1, 2, 3]), rtol=1e-4)


def test_training_drops_units_and_keeps_the_expectation(head, images):
    encoder, variables, _ = head
    x = images(0, 1, 32, 32).repeat(8, axis=0)
    still = logits_of(encoder)(variables, x) - np.float32([1, 2, 3])
    dropped = logits_of(encoder, train=True, rngs={"dropout": jax.random.key(0)})(variables, x)
    # Two layers of dropout by a half: nothing, or four times the unit.
    ratio = np.asarray((dropped - np.float32([1, 2, 3])) / still)[:, np.abs(still[0]) > 1e-3]
    assert ratio.size
    assert np.all(np.isclose(ratio, 0, atol=1e-3) | np.isclose(ratio, 4, rtol=1e-3))
    assert 0 < np.mean(ratio > 2) < 0.6


@pytest.mark.parametrize("size", [32, 320])
def test_logits_have_one_score_per_class_at_any_size(size):
    encoder = create("vgg8_bn_quarter", num_classes=11)
    x = jax.ShapeDtypeStruct((3, size, size, 3), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), x)
    logits = jax.eval_shape(lambda v, x: encoder.apply(v, x, method="logits"), variables, x)
    assert (logits.shape, logits.dtype) == ((3, 11), jnp.float32)


@pytest.mark.parametrize("method", ["logits", "__call__"])
def test_logits_refuse_images_whose_last_stage_has_nothing_to_pool(method):
    encoder = create("vgg8_bn_quarter", num_classes=3)
    x = jax.ShapeDtypeStruct((1, 31, 40, 3), jnp.float32)
    with pytest.raises(InputTooSmall, match=r"31x40 .* smallest that works is 32x32"):
        jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, method=method), x)
