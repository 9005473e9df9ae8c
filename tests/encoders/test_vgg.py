"""VGG: PyTorch's stages and head, and what each padding mode promises at the border."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encoders import create
from posjax.encoders.vgg import _adaptive_average
from posjax.layers import InputTooSmall, conv

PRESERVING = ("zeros", "reflect", "replicate", "circular", "symmetric", "partial")
CONSTANT = ("circular", "replicate", "reflect", "symmetric")
VGG11 = [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)]
VGG11_BN = [f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 22, 25)]
VGG16 = [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]


# PyTorch


@pytest.mark.parametrize(
    ("name", "mode", "image"),
    [
        ("vgg16", "zeros", (1, 2, 224, 224)),
        ("vgg16", "reflect", (1, 2, 224, 224)),
        ("vgg16", "replicate", (1, 2, 224, 224)),
        ("vgg16", "circular", (1, 2, 224, 224)),
        ("vgg16", "valid", (1, 2, 224, 224)),
        ("vgg11_bn", "zeros", (4, 2, 48, 65)),
        ("vgg11_bn", "reflect", (4, 2, 48, 65)),
    ],
)
def test_stages_are_those_of_pytorch(name, mode, image, encode, numbered, images, matches):
    encoder = create(name, padding=mode, pool_padding="lowest")
    matches(encode(encoder, numbered(encoder), images(*image)), f"{name}_{mode}")


@pytest.mark.parametrize("size", [(1, 3), (5, 7), (7, 7), (8, 13), (14, 21)])
def test_adaptive_average_is_that_of_pytorch(size, images, recorded):
    found = _adaptive_average(images(6, 1, *size), 7)
    expected = recorded["adaptive.{}x{}".format(*size)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# The head


@pytest.fixture(scope="module")
def head(numbered):
    """A head with hidden units that each read one place of the pooled f5, and its variables."""
    encoder = create("vgg11", num_classes=3)
    variables = copy.deepcopy(numbered(create("vgg11")))
    # Channel, row, column: PyTorch flattens [512, 7, 7].
    chosen = [(0, 0, 0), (3, 1, 5), (511, 6, 6)]
    kernels = [np.zeros(shape, np.float32) for shape in ((25088, 4096), (4096, 4096), (4096, 3))]
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

    return jax.jit(logits, compiler_options={"xla_backend_optimization_level": 0})


def test_logits_read_the_pooled_last_stage_channels_first(head, encode, numbered, images):
    encoder, variables, chosen = head
    x = images(0, 2, 64, 96)
    f5 = encode(create("vgg11"), numbered(create("vgg11")), x)["f5"]
    assert f5.shape == (2, 4, 6, 512)
    pooled = f5.reshape(2, 2, 2, 3, 2, 512).max((2, 4))
    averaged = _adaptive_average(pooled, 7)
    expected = np.stack([averaged[:, row, column, channel] for channel, row, column in chosen], 1)
    logits = logits_of(encoder)(variables, x)
    np.testing.assert_allclose(logits, expected + np.float32([1, 2, 3]), rtol=1e-4)


def test_training_drops_units_and_keeps_the_expectation(head, images):
    encoder, variables, _ = head
    x = images(0, 1, 32, 32).repeat(8, axis=0)
    still = logits_of(encoder)(variables, x) - np.float32([1, 2, 3])
    dropped = logits_of(encoder, train=True, rngs={"dropout": jax.random.key(0)})(variables, x)
    dropped = dropped - np.float32([1, 2, 3])
    # Two layers of dropout by a half: nothing, or four times the unit.
    ratio = np.asarray(dropped / still)[:, np.abs(still[0]) > 1e-3]
    assert ratio.size
    assert np.all(np.isclose(ratio, 0, atol=1e-3) | np.isclose(ratio, 4, rtol=1e-3))
    assert 0 < np.mean(ratio > 2) < 0.6


@pytest.mark.parametrize("size", [32, 224, 320])
def test_logits_have_one_score_per_class_at_any_size(size):
    encoder = create("vgg16_bn", num_classes=11)
    x = jax.ShapeDtypeStruct((3, size, size, 3), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), x)
    logits = jax.eval_shape(lambda v, x: encoder.apply(v, x, method="logits"), variables, x)
    assert (logits.shape, logits.dtype) == ((3, 11), jnp.float32)


def test_logits_refuse_images_whose_last_stage_has_nothing_to_pool():
    encoder = create("vgg11", num_classes=3)
    x = jax.ShapeDtypeStruct((1, 31, 40, 3), jnp.float32)
    for method in ("logits", "__call__"):
        with pytest.raises(InputTooSmall, match=r"31x40 .* smallest that works is 32x32"):
            jax.eval_shape(lambda x, m=method: encoder.init(jax.random.key(0), x, method=m), x)


# Invariants


@pytest.mark.parametrize("mode", PRESERVING)
def test_a_constant_image_gives_constant_stages_where_the_border_is_not_seen(
    mode, numbered, encode
):
    encoder = create("vgg11", padding=mode)
    x = np.full((1, 32, 32, 3), 0.7, np.float32) * np.float32([1, 0.5, 0.1])
    for stage in encode(encoder, numbered(encoder), x).values():
        spread = np.ptp(stage, axis=(1, 2)).max() / stage.std()
        assert (spread < 1e-4) == (mode in CONSTANT)


@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_circular_stages_roll_with_the_image_by_their_stride(mode, encode, numbered, images):
    encoder = create("vgg11", padding=mode)
    variables, x = numbered(encoder), images(0, 1, 32, 48)
    straight = encode(encoder, variables, x)

    def rolls(stage, stride, steps):
        pixels = tuple(stride * step for step in steps)
        rolled = encode(encoder, variables, np.roll(x, pixels, (1, 2)))[stage]
        return np.allclose(np.roll(straight[stage], steps, (1, 2)), rolled, atol=1e-4)

    # The first stage has no stride before it, and moves with any roll.
    assert rolls("f1", 1, (5, -3)) == (mode == "circular")
    assert rolls("f3", 4, (3, 1)) == (mode == "circular")
    assert rolls("f5", 16, (1, -1)) == (mode == "circular")


def test_interior_features_are_equal_in_every_mode_and_the_border_is_not(numbered, images, encode):
    x = images(0, 1, 48, 56)
    encoder = create("vgg11")
    variables = numbered(encoder)
    reference = encode(encoder, variables, x, ["f1", "f2", "f3"])
    # Stride, and how many pixels before its first pixel and after it a response sees.
    fields = {"f1": (1, 1, 1), "f2": (2, 3, 4), "f3": (4, 11, 14)}
    for mode in ("reflect", "replicate", "circular", "partial"):
        stages = encode(create("vgg11", padding=mode), variables, x, ["f1", "f2", "f3"])
        for stage, (stride, before, after) in fields.items():
            inside = tuple(
                slice(-(-before // stride), (size - 1 - after) // stride + 1)
                for size in x.shape[1:3]
            )
            here, there = stages[stage][:, *inside], reference[stage][:, *inside]
            assert min(here.shape[1:3]) >= 4
            np.testing.assert_allclose(here, there, atol=1e-5)
            first = np.abs(stages[stage] - reference[stage])[:, 0].max()
            assert first > 0.01


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular", "partial"])
def test_flipping_image_and_kernels_flips_every_stage_where_pools_divide(
    mode, encode, numbered, images
):
    encoder = create("vgg11", padding=mode)
    variables, x = numbered(encoder), images(0, 1, 32, 48)
    straight = encode(encoder, variables, x)
    back = encode(encoder, flipped(variables), x[:, ::-1, ::-1])
    for stage in straight:
        np.testing.assert_allclose(back[stage][:, ::-1, ::-1], straight[stage], atol=1e-4)


def test_a_pool_leaves_the_last_row_of_an_odd_map_unused(encode, numbered, images):
    encoder = create("vgg11")
    variables, x = numbered(encoder), images(0, 1, 33, 48)
    straight = encode(encoder, variables, x, ["f2"])["f2"]
    back = encode(encoder, flipped(variables), x[:, ::-1, ::-1], ["f2"])["f2"]
    assert straight.shape == (1, 16, 24, 128)
    assert np.abs(back[:, ::-1, ::-1] - straight).max() > 0.1


def flipped(variables):
    return jax.tree.map(lambda a: a[::-1, ::-1] if a.ndim == 4 else a, variables)


# The mode of each layer


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg11", VGG11), ("vgg11_bn", VGG11_BN), ("vgg16", VGG16)]
)
def test_a_function_is_asked_for_each_convolution_by_its_pytorch_name(name, layers):
    asked = []
    encoder = create(name, padding=lambda layer: asked.append(layer) or "zeros")
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    jax.eval_shape(encoder.init, jax.random.key(0), x)
    assert list(dict.fromkeys(asked)) == layers


def test_a_function_that_returns_one_word_is_that_word(numbered, images, encode):
    word, function = (
        create("vgg11", padding="reflect"),
        create("vgg11", padding=lambda _: "reflect"),
    )
    variables, x = numbered(word), images(0, 1, 32, 32)
    expected = encode(word, variables, x)
    for stage, found in encode(function, variables, x).items():
        np.testing.assert_array_equal(found, expected[stage])


@pytest.mark.parametrize(("layer", "changed"), [("features.0", 1), ("features.8", 3)])
def test_one_other_layer_changes_the_stages_from_there_on(layer, changed, numbered, images, encode):
    encoder = create("vgg11")
    other = create("vgg11", padding=lambda name: "circular" if name == layer else "zeros")
    variables, x = numbered(encoder), images(0, 1, 32, 32)
    expected, found = encode(encoder, variables, x), encode(other, variables, x)
    for i in range(1, 6):
        same = np.allclose(found[f"f{i}"], expected[f"f{i}"], atol=1e-5)
        assert same == (i < changed)


def test_an_answer_that_is_no_mode_is_refused_with_the_layer_named(images):
    for answer in ("same", None):
        encoder = create("vgg11", padding=lambda name, a=answer: a if "8" in name else "zeros")
        with pytest.raises(ValueError, match=rf"{answer!r}.*features\.8"):
            jax.eval_shape(encoder.init, jax.random.key(0), images(0, 1, 32, 32))


# Sizes


@pytest.mark.parametrize(
    ("name", "mode", "smallest"),
    [
        ("vgg11", "zeros", 16),
        ("vgg11", "circular", 16),
        ("vgg11_bn", "reflect", 32),
        # From one pixel of f5 back: three (two) unpadded convolutions, a pool, and so on.
        ("vgg16", "valid", 196),
        ("vgg11", "valid", 134),
    ],
)
def test_too_small_an_image_is_refused_with_the_smallest_size_which_works(name, mode, smallest):
    encoder = create(name, padding=mode)

    def stages(height, width):
        x = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
        return jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x), x)[0]

    least = stages(smallest, smallest)["f5"].shape
    assert least == ((1, 2, 2, 512) if mode == "reflect" else (1, 1, 1, 512))
    for size in ((smallest - 1, smallest), (smallest, smallest - 1)):
        words = rf"{size[0]}x{size[1]} .* smallest that works is {smallest}x{smallest}"
        with pytest.raises(InputTooSmall, match=words):
            stages(*size)


def test_too_small_an_image_is_refused_with_variables_and_under_jit(numbered, images):
    encoder = create("vgg11", padding="reflect")
    variables = numbered(encoder)
    for apply in (encoder.apply, jax.jit(encoder.apply)):
        with pytest.raises(InputTooSmall, match="smallest that works is 32x32"):
            apply(variables, images(0, 1, 31, 40))


# Training and precision


def test_training_moves_the_running_statistics_and_nothing_else(numbered, images):
    encoder = create("vgg11_bn")
    variables, x = numbered(encoder), images(0, 2, 32, 32)
    step = jax.jit(lambda v, x: encoder.apply(v, x, train=True, mutable=["batch_stats"])[1])
    changed = step(variables, x)
    assert set(changed) == {"batch_stats"}
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != b)),
        changed["batch_stats"],
        variables["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))
    # The first BatchNorm, by PyTorch's rule: a tenth of the batch's mean and unbiased variance.
    first = conv(x, **variables["params"]["features_0"])
    for name, batch in (("mean", np.mean(first, (0, 1, 2))), ("var", np.var(first, (0, 1, 2)))):
        batch = batch * 2048 / 2047 if name == "var" else batch
        expected = 0.9 * variables["batch_stats"]["features_1"][name] + 0.1 * batch
        np.testing.assert_allclose(changed["batch_stats"]["features_1"][name], expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_bfloat16_stages_are_near_those_of_float32(name, numbered, images, encode):
    encoder = create(name)
    variables, x = numbered(encoder), images(0, 1, 32, 32)
    expected = encode(encoder, variables, x)
    for stage, found in encode(create(name, dtype=jnp.bfloat16), variables, x).items():
        assert found.dtype == jnp.bfloat16
        error = np.abs(np.float32(found) - expected[stage]).mean() / expected[stage].std()
        assert 1e-5 < error < 0.03
