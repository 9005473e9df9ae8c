"""Padding modes as data: one compiled encoder is every encoder that `create` makes in words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from posjax import encoders
from posjax.encoders import Padding, layer_modes, with_modes
from posjax.encoders.aligned import AlignedEncoder

QUICK = {"xla_backend_optimization_level": 0}
# Each mode that keeps the size at some layer, on an image of this size.
MIXTURES = {
    "basic": (33, "partial+conv1=circular+maxpool=mean+layer1.0.conv1=symmetric"),
    "bottleneck": (33, "replicate+maxpool=extrapolate+layer1.0.conv2=partial"),
    "cifar": (12, "zeros+conv1=reflect+layer1.0.conv2=extrapolate+layer2.0.conv1=mean"),
    "vgg": (32, "reflect+features.0=partial+features.4=replicate+features.8=circular"),
}


def close(stages, expected):
    assert stages.keys() == expected.keys()
    for stage, x in stages.items():
        deviation = np.std(expected[stage])
        np.testing.assert_allclose(x, expected[stage], rtol=0, atol=1e-5 * deviation)


@pytest.mark.parametrize("kind", MIXTURES)
def test_one_compiled_encoder_gives_the_stages_of_every_mode(kind, small, encode, numbered, images):
    network, (size, mixture) = small(kind), MIXTURES[kind]
    variables, x = numbered(network), images(0, 1, size, size)
    expected = encode(small(kind, Padding.parse(mixture)), variables, x)
    close(encode(network, variables, x, mixture), expected)
    zeros = encode(network, variables, x, "zeros")
    assert all(np.abs(zeros[stage] - expected[stage]).max() > 1e-3 for stage in ("f2", "f3"))


@pytest.fixture
def basic(small, numbered, images):
    """A network with a pool that pads, its variables, an image, and the function of modes."""
    network = small("basic")

    def run(variables, x, modes):
        return with_modes(network, modes).apply(variables, x)

    return network, numbered(network), images(0, 1, 33, 33), run


def test_many_modes_pass_through_an_encoder_at_once(basic, encode):
    network, variables, x, run = basic
    paddings = ("reflect", "zeros+maxpool=circular", "mean+conv1=extrapolate")
    modes = np.stack([layer_modes(network, Padding.parse(padding)) for padding in paddings])
    every = jax.jit(jax.vmap(run, in_axes=(None, None, 0)), compiler_options=QUICK)
    together = every(variables, x, modes)
    for i, padding in enumerate(paddings):
        stages = {stage: values[i] for stage, values in together.items()}
        close(stages, encode(network, variables, x, padding))


def test_derivatives_under_modes_that_are_integers_are_those_under_words(basic, small):
    network, variables, x, run = basic
    padding = Padding.parse("reflect+maxpool=mean+layer1.0.conv1=extrapolate")
    modes = layer_modes(network, padding)
    direction = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def by_data(x):
        return jnp.mean(run(variables, x, modes)["f2"] ** 2)

    def by_words(x):
        return jnp.mean(small("basic", padding).apply(variables, x)["f2"] ** 2)

    gradient, expected = (
        jax.jit(jax.grad(f), compiler_options=QUICK)(x) for f in (by_data, by_words)
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())
    along = jax.jit(lambda x, d: jax.jvp(by_data, (x,), (d,)), compiler_options=QUICK)
    np.testing.assert_allclose(along(x, direction)[1], np.sum(gradient * direction), rtol=1e-3)


def test_an_encoder_that_takes_modes_as_integers_is_exported_for_every_platform(basic, encode):
    network, variables, x, run = basic
    modes = {mode: layer_modes(network, Padding(mode)) for mode in ("circular", "mean")}
    exporter = export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))
    exported = exporter(variables, x, modes["circular"])
    for mode, integers in modes.items():
        close(exported.call(variables, x, integers), encode(network, variables, x, mode))


def families():
    """The first encoder of each family that `create` knows: others differ in depth alone."""
    options = ("bottleneck", "cifar", "batch_norm")
    first = {}
    for name in encoders.names():
        module = encoders.create(name)
        first.setdefault((type(module), *(getattr(module, k, None) for k in options)), name)
    return [name for name in first.values() if name != encoders.PIXELS]


@pytest.mark.parametrize("name", families())
def test_every_family_of_encoders_takes_modes_as_integers(name):
    module = encoders.create(name)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    modes = jax.ShapeDtypeStruct((len(encoders.padded_layers(name)),), jnp.int32)
    stages = jax.eval_shape(lambda v, x, m: with_modes(module, m).apply(v, x), variables, x, modes)
    assert [*stages] == [*module.receptive_fields()]


@pytest.mark.parametrize(
    ("kind", "padding", "options", "size"),
    [
        ("cifar", "reflect+layer1.0.conv1=valid+layer2.0.conv2=circular", {}, 20),
        ("cifar", "reflect@cropped", {}, 33),
        ("basic", "reflect", {"pool_padding": "lowest"}, 33),
    ],
    ids=["valid layer", "aligned", "pool"],
)
def test_modes_that_are_integers_keep_valid_layers_alignments_and_pools(
    kind, padding, options, size, small, numbered, encode, images
):
    padding, x = Padding.parse(padding), images(0, 1, size, size)
    shared, words = (small(kind, p, **options) for p in (padding.as_compiled, padding))
    if padding.alignment:
        shared, words = (
            AlignedEncoder(small(kind, Padding(p.mode)), p.alignment)
            for p in (padding.as_compiled, padding)
        )
    variables = numbered(small(kind))
    close(encode(shared, variables, x, padding), encode(words, variables, x))


def test_as_many_modes_as_layers_are_needed():
    with pytest.raises(ValueError, match=r"must be \[19\].*\(3,\)"):
        with_modes(encoders.create("resnet20"), np.zeros(3, np.int32))
