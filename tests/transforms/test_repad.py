"""`repad`: any JAX function under another padding mode, as if it had been written with it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import posjax
from posjax import encoders
from posjax.layers import MODES, InputTooSmall, mode_index

NUMPY = {
    "reflect": {"mode": "reflect"},
    "replicate": {"mode": "edge"},
    "circular": {"mode": "wrap"},
    "symmetric": {"mode": "symmetric"},
    "extrapolate": {"mode": "reflect", "reflect_type": "odd"},
}
KEEP_SIZE = tuple(mode for mode in MODES if mode != "valid")
NHWC = ("NHWC", "HWIO", "NHWC")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same_mode(layer):
    return layer.mode


def numpy_pad(x, widths, mode):
    """[n, *space, c], `widths` for each axis of space."""
    level = x.mean(tuple(range(1, x.ndim - 1)), keepdims=True) if mode == "mean" else 0
    return np.pad(x - level, [(0, 0), *widths, (0, 0)], **NUMPY.get(mode, {})) + level


X, KERNEL = draw(2, 8, 8, 3), draw(3, 3, 3, 3, seed=1) / 3


def conv(x, kernel=KERNEL, padding="SAME", **options):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC, **options)


def circular(x, kernel=KERNEL):
    return conv(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap"), kernel, "VALID")


def mean_pool(x):
    widths = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), widths) / 9


class Network(nn.Module):
    """Strides, groups, dilation, a `jnp.pad` in front, and both kinds of pools."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), padding=1, name="stem")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        x = nn.Conv(8, (3, 3), (2, 2), padding=1, feature_group_count=2, name="groups")(x)
        x = nn.relu(nn.Conv(8, (3, 3), padding=2, kernel_dilation=2, name="dilated")(x))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = nn.Conv(8, (3, 3), padding="VALID", name="in_front")(x)
        return mean_pool(x)


@pytest.fixture(scope="module")
def network():
    images = draw(2, 16, 16, 3)
    variables = jax.jit(Network().init)(jax.random.key(0), images)
    return functools.partial(Network().apply, variables), images


def test_layers_are_named_by_their_scopes_and_know_their_geometry(network):
    layers = posjax.padded_layers(*network)
    assert layers == [
        "Network/stem",
        "Network/max_pool",
        "Network/groups",
        "Network/dilated",
        "Network/in_front",
        "Network/avg_pool",
    ]
    dilated = layers[3]
    assert (dilated.name, dilated.kind, dilated.mode) == ("Network/dilated", "conv", "zeros")
    assert (dilated.kernel, dilated.strides) == ((3, 3), (1, 1))
    assert (dilated.widths, dilated.size) == (((2, 2), (2, 2)), (4, 4))
    assert (layers[1].kind, layers[1].mode, layers[1].strides) == ("max_pool", "lowest", (2, 2))
    assert layers[4].widths == ((1, 1), (1, 1))


def test_the_mode_that_is_there_gives_the_function_itself(network):
    fn, images = network
    same = jax.jit(posjax.repad(fn, same_mode))(images)
    np.testing.assert_array_equal(same, jax.jit(fn)(images))
    np.testing.assert_array_equal(posjax.repad(conv, "zeros")(X), conv(X))


def test_circular_commutes_with_a_roll_by_the_total_stride(network):
    fn, images = jax.jit(network[0]), network[1]
    repadded = jax.jit(posjax.repad(network[0], "circular"))
    rolled = repadded(np.roll(images, (4, 8), (1, 2)))
    np.testing.assert_allclose(rolled, np.roll(repadded(images), (1, 2), (1, 2)), atol=1e-5)
    assert np.abs(fn(np.roll(images, 4, 1)) - np.roll(fn(images), 1, 1)).max() > 0.1


@pytest.mark.parametrize("mode", KEEP_SIZE)
def test_responses_that_see_no_border_stay_as_they_are(mode):
    def fn(x):
        return conv(jnp.tanh(conv(x)))

    inside = np.s_[:, 2:-2, 2:-2]
    changed = posjax.repad(fn, mode)(X)
    np.testing.assert_allclose(changed[inside], fn(X)[inside], atol=1e-6)
    assert (mode == "zeros") == np.allclose(changed, fn(X), atol=1e-3)


@pytest.mark.parametrize(
    ("module", "side"),
    [
        (encoders.create("resnet18").clone(blocks=(1, 1)), 20),
        (encoders.create("vgg8_bn_quarter"), 32),
    ],
    ids=["resnet", "vgg"],
)
def test_an_encoder_under_zeros_becomes_the_encoder_of_every_mode(module, side, numbered):
    images, variables = draw(2, side, side, 3), numbered(module)
    n_layers = len(posjax.padded_layers(module.apply, variables, images))
    repadded = jax.jit(lambda modes: posjax.repad(module.apply, modes)(variables, images))
    created = jax.jit(lambda m: encoders.with_modes(module, m).apply(variables, images))
    for mode in KEEP_SIZE:
        modes = np.full(n_layers, mode_index(mode), np.int32)
        stages = repadded(modes)
        for stage, response in created(modes).items():
            assert np.std(response - stages[stage]) < 1e-5 * np.std(response), (mode, stage)


def test_wide_convolutions_that_are_quick_on_a_cpu_are_repadded_too():
    x, kernel = draw(1, 16, 16, 128), draw(3, 3, 128, 128, seed=1) / 34
    repadded = posjax.repad(conv, "circular")
    response = jax.jit(encoders.quick_on_cpu(repadded))(x, kernel)
    np.testing.assert_allclose(response, circular(x, kernel), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_convolutions_of_every_geometry_see_what_numpy_pads(data):
    axes = data.draw(st.sampled_from([1, 2]))
    channels_last = data.draw(st.booleans())
    mode = data.draw(st.sampled_from([*NUMPY, "zeros", "mean"]))
    groups = data.draw(st.sampled_from([1, 2]))

    def each(low, high):
        return [data.draw(st.integers(low, high)) for _ in range(axes)]

    kernel, strides, dilation = each(1, 3), each(1, 3), each(1, 2)
    widths = list(zip(each(0, 3), each(0, 3), strict=True))
    space = "HW"[:axes]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    if not channels_last:
        numbers = (f"NC{space}", f"OI{space}", f"NC{space}")
    x, weights = draw(2, *[7] * axes, 4), draw(*kernel, 4 // groups, 6, seed=1)
    padded = numpy_pad(x, widths, mode)
    if not channels_last:
        x, padded = np.moveaxis(x, -1, 1), np.moveaxis(padded, -1, 1)
        weights = np.moveaxis(weights, (-1, -2), (0, 1))
    options = {
        "window_strides": strides,
        "rhs_dilation": dilation,
        "dimension_numbers": numbers,
        "feature_group_count": groups,
    }
    fn = functools.partial(lax.conv_general_dilated, rhs=weights, padding=widths, **options)
    expected = lax.conv_general_dilated(padded, weights, padding="VALID", **options)
    np.testing.assert_allclose(jax.jit(posjax.repad(fn, mode))(x), expected, atol=1e-5)


def test_partial_scales_by_the_taps_inside_of_the_map():
    options = {"window_strides": (2, 2), "rhs_dilation": (2, 2), "dimension_numbers": NHWC}
    fn = functools.partial(
        lax.conv_general_dilated, rhs=KERNEL, padding=((2, 1), (0, 2)), **options
    )
    ones, every_tap = np.ones((1, 8, 8, 1)), np.ones((3, 3, 1, 1))
    inside = lax.conv_general_dilated(ones, every_tap, padding=((2, 1), (0, 2)), **options)
    np.testing.assert_allclose(posjax.repad(fn, "partial")(X), fn(X) * (9 / inside), atol=1e-5)


def test_pools_pad_by_the_mode_and_lowest_keeps_infinity():
    def largest(x):
        return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))

    negative = -np.abs(X) - 1
    np.testing.assert_array_equal(posjax.repad(largest, "zeros")(negative)[:, 0], 0)
    np.testing.assert_array_equal(
        posjax.repad(largest, "zeros+max_pool_0=lowest")(negative), largest(negative)
    )
    inside = mean_pool(X) / mean_pool(np.ones_like(X))
    np.testing.assert_allclose(posjax.repad(mean_pool, "partial")(X), inside, atol=1e-6)


@pytest.mark.parametrize("mode", [*NUMPY, "zeros", "mean"])
def test_pools_of_every_layout_see_what_numpy_pads(mode):
    def largest(x):  # of channels first, as in PyTorch
        widths, strides = ((0, 0), (0, 0), (2, 1), (1, 0)), (1, 1, 2, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 2), strides, widths)

    def row_mean(x):
        widths = ((0, 0), (1, 1), (0, 0))
        return lax.reduce_window(x, 0.0, lax.add, (1, 3, 1), (1, 1, 1), widths) / 3

    def windows(x, *size):
        return np.lib.stride_tricks.sliding_window_view(x, size, tuple(range(1, 1 + len(size))))

    def check(fn, x, expected):
        by_integer = jax.jit(lambda mode: posjax.repad(fn, mode)(x))
        for value in posjax.repad(fn, mode)(x), by_integer(jnp.int32(mode_index(mode))):
            np.testing.assert_allclose(value, expected, atol=1e-6)

    averages = windows(numpy_pad(X, ((1, 1), (1, 1)), mode), 3, 3).mean((-2, -1))
    check(mean_pool, X, averages)
    maxima = windows(numpy_pad(X, ((2, 1), (1, 0)), mode), 3, 2).max((-2, -1))[:, ::2]
    check(largest, np.moveaxis(X, -1, 1), np.moveaxis(maxima, -1, 1))
    check(row_mean, X[:, 0], windows(numpy_pad(X[:, 0], ((1, 1),), mode), 3).mean(-1))


def test_an_average_that_leaves_the_border_out_is_one_layer():
    def mean(x):
        counts = mean_pool(jnp.ones((1, 8, 8, 1)))
        return mean_pool(x) / counts

    assert posjax.padded_layers(mean, X) == ["avg_pool_0"]
    ones = np.ones_like(X)
    np.testing.assert_allclose(posjax.repad(mean, "replicate")(ones), ones, rtol=1e-6)


def test_what_is_no_layer_that_pads_is_left_alone():
    def channels(x):  # as local response normalisation sums
        return lax.reduce_window(x, 0.0, lax.add, (1, 1, 1, 3), (1,) * 4, "SAME")

    def spectrum(x):
        return jnp.pad(jnp.fft.fft(x, axis=1), ((0, 0), (1, 1), (0, 0), (0, 0))).real

    for fn in (channels, spectrum):
        assert posjax.padded_layers(fn, X) == []
        np.testing.assert_allclose(posjax.repad(fn, "reflect")(X), fn(X), atol=1e-5)


def test_pads_behind_each_other_are_one():
    def fn(x):
        rows = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
        return conv(jnp.pad(rows, ((0, 0), (0, 0), (1, 1), (0, 0))), padding="VALID")

    np.testing.assert_allclose(posjax.repad(fn, "circular")(X), circular(X), atol=1e-5)


def test_names_that_repeat_are_told_apart():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            shared = nn.Conv(3, (3, 3), name="conv")
            return nn.Conv(3, (3, 3), name="conv_0")(shared(shared(x)))

    fn = functools.partial(Shared().apply, Shared().init(jax.random.key(0), X))
    layers = posjax.padded_layers(fn, X)
    assert sorted(layers) == ["Shared/conv_0", "Shared/conv_1", "Shared/conv_2"]
    alone = posjax.repad(fn, lambda layer: "reflect" if layer == layers[0] else "zeros")(X)
    assert not np.allclose(alone, fn(X), atol=1e-3)


def test_side_effects_happen_in_each_call():
    numbers = iter(range(100))

    def fn(x):
        shape = jax.ShapeDtypeStruct((), np.float32)
        drawn = jax.experimental.io_callback(
            lambda _: np.float32(next(numbers)), shape, np.float32(1)
        )
        return conv(x) + drawn

    repadded = jax.jit(posjax.repad(fn, "circular"))
    first, second = (float(repadded(X)[0, 0, 0, 0]) for _ in range(2))
    assert (round(first - second), next(numbers)) == (-1, 2)


@jax.custom_vjp
def tripled(x):
    return 3 * x + jnp.zeros_like(x, jnp.bfloat16).astype(x.dtype)


tripled.defvjp(lambda x: (3 * x, None), lambda _, gradient: (100 * gradient,))


@jax.custom_jvp
def custom(x):
    return conv(x)


custom.defjvp(lambda primals, tangents: (conv(*primals), conv(*tangents)))

INSIDE = {
    "jit": (jax.jit(conv), circular),
    "custom_jvp": (custom, circular),
    "remat": (jax.checkpoint(lambda x: jnp.sin(conv(x))), lambda x: np.sin(circular(x))),
    "scan": (
        lambda x: lax.scan(lambda c, row: (conv(c) + row, c.sum()), x, jnp.arange(2.0)),
        lambda x: (
            circular(circular(x)) + 1,
            np.stack([x.sum(), circular(x).sum()]),
        ),
    ),
    "while": (
        lambda x: lax.fori_loop(0, 2, lambda _, y: conv(y), x),
        lambda x: circular(circular(x)),
    ),
    "cond": (
        lambda x: lax.cond(x.sum() > 1e6, lambda y: y, conv, x),
        circular,
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_layers_inside_of_calls_loops_and_branches_are_repadded(name):
    fn, expected = INSIDE[name]
    repadded = posjax.repad(fn, "circular")
    leaves = zip(jax.tree.leaves(repadded(X)), jax.tree.leaves(expected(X)), strict=True)
    for value, numbers in leaves:
        np.testing.assert_allclose(value, numbers, rtol=1e-4, atol=1e-4)


def test_modes_that_are_integers_reach_into_a_loop():
    def fn(x):
        return lax.scan(lambda c, _: (conv(c), None), x, None, length=2)[0]

    by_integer = jax.jit(lambda mode: posjax.repad(fn, mode)(X))
    result = by_integer(jnp.int32(mode_index("circular")))
    np.testing.assert_allclose(result, circular(circular(X)), atol=1e-5)


def test_custom_derivatives_are_kept_where_nothing_inside_pads():
    repadded = posjax.repad(lambda x: tripled(conv(x)), "circular")
    gradient = jax.jit(jax.grad(lambda x: repadded(x).sum()))(X)
    expected = jax.jit(jax.grad(lambda x: 100 * circular_of(x).sum()))(X)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)


def circular_of(x):
    return conv(posjax.layers.pad(x, ((1, 1), (1, 1)), "circular"), padding="VALID")


@pytest.mark.parametrize("mode", ["reflect", "mean", "extrapolate", "partial"])
def test_gradients_are_those_of_finite_differences(mode):
    def fn(x):
        return mean_pool(conv(jnp.tanh(conv(x))))

    repadded = jax.jit(lambda x: (posjax.repad(fn, mode)(x) ** 2).mean())
    direction, step = draw(*X.shape, seed=5), 1e-2
    slope = np.vdot(jax.grad(repadded)(X), direction)
    _, tangent = jax.jvp(repadded, (X,), (direction,))
    difference = repadded(X + step * direction) - repadded(X - step * direction)
    np.testing.assert_allclose(tangent, slope, rtol=1e-3)
    np.testing.assert_allclose(difference / (2 * step), slope, rtol=2e-2)


def test_a_repadded_function_is_mapped_over_modes_and_over_devices():
    def fn(x):
        return mean_pool(jnp.tanh(conv(x)))

    modes = np.arange(2, dtype=np.int32)
    mapped = jax.jit(jax.vmap(lambda mode: posjax.repad(fn, mode)(X)))(modes)
    for one, mode in zip(mapped, MODES, strict=False):
        np.testing.assert_allclose(one, posjax.repad(fn, mode)(X), atol=1e-5)
    on_devices = jax.pmap(posjax.repad(fn, "reflect"), devices=jax.local_devices()[:2])
    shards = X.reshape(2, 1, *X.shape[1:])
    np.testing.assert_allclose(np.concatenate(on_devices(shards)), mapped[1], atol=1e-5)


def test_single_layers_are_named_by_text_by_function_and_by_integers(network):
    fn, images = network
    by_text = jax.jit(posjax.repad(fn, "zeros+stem=reflect"))(images)
    by_name = posjax.repad(fn, lambda layer: "reflect" if layer.endswith("stem") else "zeros")
    modes = np.zeros(6, np.int32)
    modes[0] = mode_index("reflect")
    np.testing.assert_array_equal(jax.jit(by_name)(images), by_text)
    np.testing.assert_allclose(jax.jit(posjax.repad(fn, modes))(images), by_text, atol=1e-5)


def transposed(x):
    with jax.named_scope("up"):
        return conv(x, padding=((1, 1), (1, 1)), lhs_dilation=(2, 2))


@pytest.mark.parametrize(
    ("fn", "padding", "words"),
    [
        (conv, "valid", "layer conv_0 cannot be valid"),
        (conv, "mirror", "'mirror' is unknown"),
        (conv, "lowest", "'lowest'.*unknown"),
        (conv, "valid@cropped", "alignment"),
        (conv, "zeros+conv9=reflect", "'conv9' names 0 layers; those that pad are conv_0"),
        (conv, np.zeros(2, np.int32), r"one for each of the 1 layers.*\(2,\)"),
        (conv, np.int32(99), "'99' of layer conv_0"),
        (transposed, "reflect", "layer up is a transposed convolution"),
        (jax.grad(lambda x: conv(x).sum()), "reflect", "repad the function, then differentiate"),
    ],
)
def test_what_cannot_be_repadded_is_refused_by_the_name_of_the_layer(fn, padding, words):
    with pytest.raises(ValueError, match=words):
        posjax.repad(fn, padding)(X)


def test_a_map_that_is_too_small_is_refused_by_the_name_of_the_layer():
    small = functools.partial(conv, X[:, :1])
    for padding in ("reflect", np.int32(mode_index("reflect"))):
        with pytest.raises(InputTooSmall, match=r"conv_0: reflect.*height 2 or more"):
            posjax.repad(small, padding)()


def test_a_transposed_convolution_may_stay():
    np.testing.assert_array_equal(posjax.repad(transposed, "zeros")(X), transposed(X))


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR", "REFLECT", 1, ((2, 1), (0, 1))])
def test_convolutions_of_nnx_are_repadded_where_they_pad_zeros(padding):
    layer = nnx.Conv(3, 4, (3, 3), padding=padding, rngs=nnx.Rngs(0))
    pads_zeros = padding not in ("VALID", "CIRCULAR", "REFLECT")
    assert len(posjax.padded_layers(layer, X)) == pads_zeros
    repadded = posjax.repad(layer, "circular")(X)
    if not pads_zeros:
        np.testing.assert_array_equal(repadded, layer(X))
        return
    widths = {"SAME": ((1, 1), (1, 1)), 1: ((1, 1), (1, 1))}.get(padding, padding)
    wide = np.pad(X, ((0, 0), *widths, (0, 0)), mode="wrap")
    expected = conv(wide, layer.kernel[...], "VALID") + layer.bias[...]
    np.testing.assert_allclose(repadded, expected, atol=1e-5)
