"""ResNets: PyTorch's stages, what each padding mode promises, and unpadded blocks that align."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encoders import create
from posjax.encoders.resnet import ResNet
from posjax.layers import InputTooSmall

PRESERVING = ("zeros", "reflect", "replicate", "circular", "symmetric", "partial")
CONSTANT = ("circular", "replicate", "reflect", "symmetric")
# Under `valid`: the pixel on which the first response of each stage is centred. A convolution
# moves it by half its kernel, in pixels as wide as the strides before it.
CENTRES = {
    "basic": (3, 5 + 8, 13 + 4 + 8, 25 + 8 + 16, 49 + 16 + 32),
    "bottleneck": (3, 5 + 4, 9 + 4, 13 + 8, 21 + 16),
    "cifar": (1, 1 + 2, 3 + 1 + 2, 6 + 2 + 4),
}
# One of each kind of block and shortcut, small enough to compile quickly.
SMALL = {
    "basic": {"blocks": (1, 1, 1, 1)},
    "bottleneck": {"blocks": (1, 1, 1, 1), "bottleneck": True},
    "cifar": {"blocks": (1, 1, 1), "cifar": True},
}
# Stride of each stage.
STRIDES = {"basic": (2, 4, 8, 16, 32), "bottleneck": (2, 4, 8, 16, 32), "cifar": (1, 1, 2, 4)}
kinds = pytest.mark.parametrize("kind", SMALL)
# Every mode on the quickest kind; on the others one that repeats pixels and one that does not.
kinds_and_modes = pytest.mark.parametrize(
    ("kind", "mode"),
    [("cifar", mode) for mode in PRESERVING]
    + [(kind, mode) for kind in ("basic", "bottleneck") for mode in ("zeros", "reflect")],
)


def small(kind, padding="zeros", **options):
    return ResNet(**SMALL[kind], padding=padding, **options)


def shapes(encoder, height, width):
    x = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    stages = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x)[0], x)
    return [stages[f"f{i + 1}"].shape[1:] for i in range(len(stages))]


# PyTorch


@pytest.mark.parametrize(
    ("name", "mode", "image"),
    [
        ("resnet18", "zeros", (3, 2, 160, 160)),
        ("resnet50", "zeros", (2, 2, 224, 224)),
        ("resnet50", "reflect", (2, 2, 224, 224)),
        ("resnet50", "replicate", (2, 2, 224, 224)),
        ("resnet50", "circular", (2, 2, 224, 224)),
        ("resnet20", "zeros", (5, 2, 40, 33)),
        ("resnet20", "reflect", (5, 2, 40, 33)),
        ("resnet20", "circular", (5, 2, 40, 33)),
    ],
)
def test_stages_are_those_of_pytorch(name, mode, image, encode, numbered, images, matches):
    encoder = create(name, padding=mode, pool_padding="lowest")
    matches(encode(encoder, numbered(encoder), images(*image)), f"{name}_{mode}")


def test_logits_are_those_of_pytorch(numbered, images, recorded):
    encoder = create("resnet20", num_classes=10)
    logits = jax.jit(lambda v, x: encoder.apply(v, x, method="logits"))
    found = logits(numbered(encoder), images(5, 2, 40, 33))
    np.testing.assert_allclose(found, recorded["resnet20.logits"], atol=1e-4)


def test_a_training_step_is_that_of_pytorch(numbered, images, recorded):
    encoder = create("resnet20", num_classes=10)
    variables, x = numbered(encoder), images(5, 2, 40, 33)
    step = jax.jit(lambda v, x: encoder.apply(v, x, train=True, mutable=["batch_stats"]))
    stages, changed = step(variables, x)
    assert set(changed) == {"batch_stats"}
    np.testing.assert_allclose(stages["f4"], recorded["resnet20.train.f4"], atol=2e-4)
    for norm in ("bn1", "layer2.0.bn1", "layer3.2.bn2"):
        found = changed["batch_stats"]
        for part in norm.replace(".", "_", 1).split("."):
            found = found[part]
        for name in ("mean", "var"):
            expected = recorded[f"resnet20.train.{norm}.{name}"]
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != b)),
        changed["batch_stats"],
        variables["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


def test_logits_are_the_mean_of_the_last_stage_through_a_dense_layer(encode, numbered, images):
    encoder = small("basic", num_classes=7)
    variables, x = numbered(encoder), images(0, 3, 48, 70)
    last = encode(encoder, variables, x)["f5"]
    assert last.shape == (3, 2, 3, 512)
    dense = variables["params"]["fc"]
    expected = last.mean((1, 2)) @ dense["kernel"] + dense["bias"]
    logits = jax.jit(lambda v, x: encoder.apply(v, x, method="logits"))(variables, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


# Invariants


@kinds_and_modes
def test_a_constant_image_gives_constant_stages_where_the_border_is_not_seen(
    kind, mode, encode, numbered
):
    encoder = small(kind, mode)
    x = np.full((1, 33, 33, 3), 0.7, np.float32) * np.float32([1, 0.5, 0.1])
    for stage in encode(encoder, numbered(encoder), x).values():
        spread = np.ptp(stage, axis=(1, 2)).max() / stage.std()
        assert (spread < 1e-4) == (mode in CONSTANT)


@kinds
@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_circular_stages_roll_with_the_image_by_their_stride(kind, mode, encode, numbered, images):
    encoder = small(kind, mode)
    variables, x = numbered(encoder), images(0, 1, 64, 96)
    straight = encode(encoder, variables, x)
    for (stage, found), stride in zip(sorted(straight.items()), STRIDES[kind], strict=True):
        rolled = encode(encoder, variables, np.roll(x, (stride, -stride), (1, 2)))[stage]
        same = np.allclose(np.roll(found, (1, -1), (1, 2)), rolled, atol=1e-4 * found.std())
        assert same == (mode == "circular")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        # How many pixels to each side a response sees: 7x7, pool, then 3x3 at the stages' strides.
        ("basic", {"f1": 3, "f2": 5 + 2 * 4, "f3": 13 + 4 + 8}),
        ("bottleneck", {"f1": 3, "f2": 5 + 4, "f3": 9 + 4}),
        ("cifar", {"f1": 1, "f2": 3, "f3": 3 + 1 + 2, "f4": 6 + 2 + 4}),
    ],
)
def test_interior_features_are_equal_in_every_mode_and_the_border_is_not(
    kind, fields, encode, numbered, images
):
    x = images(0, 1, 88, 90)
    variables = numbered(small(kind))
    reference = encode(small(kind), variables, x, fields)
    for mode in PRESERVING[1:] if kind == "cifar" else ("reflect", "partial"):
        stages = encode(small(kind, mode), variables, x, fields)
        for (stage, field), stride in zip(fields.items(), STRIDES[kind], strict=False):
            inside = tuple(
                slice(-(-field // stride), (size - 1 - field) // stride + 1)
                for size in x.shape[1:3]
            )
            here, there = stages[stage][:, *inside], reference[stage][:, *inside]
            assert min(here.shape[1:3]) >= 4
            tolerance = 1e-5 * reference[stage].std()
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=10 * tolerance)
            assert np.abs(stages[stage] - reference[stage])[:, 0].max() > 1e3 * tolerance


@kinds_and_modes
def test_flipping_image_and_kernels_flips_the_stages_where_strides_divide(
    kind, mode, encode, numbered, images
):
    encoder = small(kind, mode)
    variables = numbered(encoder)

    def flips(height, width):
        return stages_flip(encoder, variables, images(0, 1, height, width), encode)

    # One more than a multiple of the stride, as 225 is; at 64, as at 224, the last padded row of
    # the strided layers is left out.
    assert all(flips(33, 33))
    assert flips(64, 33) == [stride == 1 for stride in STRIDES[kind]]


@kinds
def test_flips_pass_through_an_unpadded_network_of_its_smallest_size(
    kind, encode, numbered, images
):
    size = 2 * CENTRES[kind][-1] + 1
    encoder = small(kind, "valid")
    assert all(stages_flip(encoder, numbered(encoder), images(0, 1, size, size), encode))


def stages_flip(encoder, variables, x, encode):
    """Whether each stage flips with image and kernels."""
    flipped = jax.tree.map(lambda a: a[::-1, ::-1] if a.ndim == 4 else a, variables)
    straight = encode(encoder, variables, x)
    back = encode(encoder, flipped, x[:, ::-1, ::-1])
    return [
        np.allclose(back[stage][:, ::-1, ::-1], found, atol=1e-4 * found.std())
        for stage, found in sorted(straight.items())
    ]


# Unpadded networks


@kinds
def test_unpadded_responses_are_those_that_a_padded_network_has_on_the_same_pixels(
    kind, encode, numbered, images
):
    variables = numbered(small(kind))
    centres, strides = CENTRES[kind], STRIDES[kind]
    smallest = 2 * centres[-1] + 1
    # Strides that do not divide leave rows unused at the end, and none at the start.
    x = images(0, 1, smallest + strides[-1] + 3, smallest + 2 * strides[-1] + 1)
    found = encode(small(kind, "valid"), variables, x)
    assert found[f"f{len(strides)}"].shape[1:3] == (2, 3)
    # More rows and columns before the image bring its centres onto the receptive_fields of zero padding.
    more = -centres[-1] % strides[-1]
    wider = np.concatenate([images(1, 1, more, x.shape[2]), x], 1)
    wider = np.concatenate([images(2, 1, wider.shape[1], more), wider], 2)
    padded = encode(small(kind), variables, wider)
    for i, (centre, stride) in enumerate(zip(centres, strides, strict=True)):
        stage = found[f"f{i + 1}"]
        assert (centre + more) % stride == 0
        first = (centre + more) // stride
        height, width = stage.shape[1:3]
        there = padded[f"f{i + 1}"][:, first : first + height, first : first + width]
        np.testing.assert_allclose(stage, there, rtol=1e-4, atol=1e-4 * there.std())


@pytest.mark.parametrize(("kind", "pixel"), [("basic", 4), ("cifar", 1)])
@pytest.mark.parametrize(("unpadded", "lost"), [({"conv1"}, 1), ({"conv2"}, 2)])
def test_one_unpadded_convolution_moves_its_block_and_keeps_the_shortcut_aligned(
    kind, pixel, unpadded, lost, encode, numbered, images
):
    def padding(layer):
        block, name = layer.rpartition(".")[::2]
        return "valid" if block == "layer2.0" and name in unpadded else "zeros"

    variables, x = numbered(small(kind)), images(0, 1, 128, 144)
    found = encode(small(kind, padding), variables, x, ["f3"])["f3"]
    # The block strides by two pixels of its input, each as wide as `pixel` pixels of the image.
    more = lost % 2 * pixel
    wider = np.pad(x, ((0, 0), (more, 0), (more, 0), (0, 0)))
    padded = encode(small(kind), variables, wider, ["f3"])["f3"]
    here, there = found[:, 6:10, 6:10], padded[:, 7:11, 7:11]
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4 * there.std())


@kinds
def test_unpadded_stages_move_with_the_image_by_their_stride(kind, encode, numbered, images):
    encoder, stride = small(kind, "valid"), STRIDES[kind][-1]
    variables = numbered(encoder)
    size = 2 * CENTRES[kind][-1] + 1 + stride
    x = images(0, 1, size + stride, size + stride)
    upper = encode(encoder, variables, x[:, :-stride, :-stride])
    lower = encode(encoder, variables, x[:, stride:, stride:])
    for (name, stage), own in zip(sorted(upper.items()), STRIDES[kind], strict=True):
        steps = stride // own
        expected = lower[name][:, :-steps, :-steps]
        np.testing.assert_allclose(
            stage[:, steps:, steps:], expected, rtol=1e-4, atol=1e-4 * expected.std()
        )


@pytest.mark.parametrize(
    ("encoder", "smallest", "last"),
    [
        (small("cifar", "reflect"), 5, 2),
        (small("basic", "circular"), 3, 1),
        (small("basic", "reflect"), 33, 2),
        (small("bottleneck", "reflect"), 17, 1),
        # Unpadded: twice the pixel on which the last stage's only response is centred, and one.
        (small("basic", "valid"), 195, 1),
        (create("resnet20", padding="valid"), 81, 1),
        (create("resnet18", padding="valid"), 435, 1),
    ],
)
def test_too_small_an_image_is_refused_with_the_smallest_size_which_works(encoder, smallest, last):
    assert shapes(encoder, smallest, smallest)[-1][:2] == (last, last)
    for size in ((smallest - 1, smallest), (smallest + 1, smallest - 1)):
        words = rf"{size[0]}x{size[1]} .* smallest that works is {smallest}x{smallest}"
        with pytest.raises(InputTooSmall, match=words):
            shapes(encoder, *size)


def test_too_small_an_image_is_refused_with_variables_under_jit_and_for_logits(numbered, images):
    encoder = small("cifar", "reflect", num_classes=10)
    variables, x = numbered(encoder), images(0, 1, 4, 9)
    for apply in (encoder.apply, jax.jit(encoder.apply)):
        with pytest.raises(InputTooSmall, match=r"4x9 .* smallest that works is 5x5"):
            apply(variables, x)
    with pytest.raises(InputTooSmall, match=r"4x9 .* smallest that works is 5x5"):
        jax.eval_shape(lambda x: encoder.apply(variables, x, method="logits"), x)


@pytest.mark.parametrize("mode", ["zeros", "replicate", "partial"])
def test_one_pixel_is_enough_where_a_mode_can_always_pad(mode):
    assert shapes(create("resnet18", padding=mode), 1, 1) == [
        (1, 1, width) for width in (64, 64, 128, 256, 512)
    ]


# The mode of each layer


def basic_layers(*counts):
    return [
        f"layer{i + 1}.{j}.conv{k}" for i, n in enumerate(counts) for j in range(n) for k in (1, 2)
    ]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["conv1", "maxpool", *basic_layers(2, 2, 2, 2)]),
        ("resnet20", ["conv1", *basic_layers(3, 3, 3)]),
        (
            "resnet50",
            ["conv1", "maxpool"]
            + [f"layer{i + 1}.{j}.conv2" for i, n in enumerate((3, 4, 6, 3)) for j in range(n)],
        ),
    ],
)
def test_a_function_is_asked_for_each_padded_layer_by_its_pytorch_name(name, layers):
    asked = set()
    shapes(create(name, padding=lambda layer: asked.add(layer) or "zeros"), 33, 33)
    assert asked == set(layers)


def test_a_function_for_the_pool_is_asked_for_the_pool_alone():
    layers, pools = set(), set()
    encoder = create(
        "resnet18",
        padding=lambda layer: layers.add(layer) or "zeros",
        pool_padding=lambda layer: pools.add(layer) or "reflect",
    )
    shapes(encoder, 33, 33)
    assert pools == {"maxpool"}
    assert layers == {"conv1", *basic_layers(2, 2, 2, 2)}


@kinds
def test_a_function_that_returns_one_word_is_that_word(kind, encode, numbered, images):
    variables, x = numbered(small(kind)), images(0, 1, 33, 33)
    expected = encode(small(kind, "reflect"), variables, x)
    for stage, found in encode(small(kind, lambda layer: "reflect"), variables, x).items():
        np.testing.assert_array_equal(found, expected[stage])


@pytest.mark.parametrize(
    ("kind", "layer", "changed"),
    [
        ("basic", "conv1", 1),
        ("basic", "maxpool", 2),
        ("bottleneck", "layer2.0.conv2", 3),
        ("cifar", "layer3.0.conv1", 4),
    ],
)
def test_one_other_layer_changes_the_stages_from_there_on(
    kind, layer, changed, encode, numbered, images
):
    variables, x = numbered(small(kind)), images(0, 1, 33, 33)
    other = small(kind, lambda name: "circular" if name == layer else "zeros")
    expected, found = encode(small(kind), variables, x), encode(other, variables, x)
    for i in range(len(expected)):
        stage = expected[f"f{i + 1}"]
        same = np.allclose(found[f"f{i + 1}"], stage, atol=1e-5 * stage.std())
        assert same == (i + 1 < changed)


def test_the_pool_pads_as_the_convolutions_do_unless_told(encode, numbered, images):
    variables, x = numbered(small("basic")), images(0, 1, 40, 40)

    def f2(**options):
        return encode(small("basic", "circular", **options), variables, x, ["f2"])["f2"]

    np.testing.assert_array_equal(f2(), f2(pool_padding="circular"))
    np.testing.assert_array_equal(f2(pool_padding="lowest"), f2(pool_padding="zeros"))
    np.testing.assert_array_equal(f2(pool_padding=lambda layer: "lowest"), f2(pool_padding="zeros"))
    assert np.abs(f2() - f2(pool_padding="lowest")).max() > 0.01


@pytest.mark.parametrize("layer", ["conv1", "maxpool", "layer2.0.conv2"])
def test_an_answer_that_is_no_mode_is_refused_with_the_layer_named(layer):
    for answer in ("same", None):
        encoder = small("basic", lambda name, a=answer: a if name == layer else "zeros")
        with pytest.raises(ValueError, match=f"{answer!r}.* {layer}"):
            shapes(encoder, 33, 33)


# Precision


@kinds
def test_bfloat16_stages_are_near_those_of_float32(kind, encode, numbered, images):
    variables, x = numbered(small(kind)), images(0, 1, 33, 33)
    expected = encode(small(kind), variables, x)
    for stage, found in encode(small(kind, dtype=jnp.bfloat16), variables, x).items():
        assert found.dtype == jnp.bfloat16
        error = np.abs(np.float32(found) - expected[stage]).mean() / expected[stage].std()
        assert 1e-5 < error < 0.03
