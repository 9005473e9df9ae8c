"""Padding modes as data: one compiled encoder is every encoder that `create` makes in words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental.compilation_cache import compilation_cache

from posjax import encoders
from posjax.encoders import Padding, layer_modes, padded_layers, with_modes
from posjax.encoders.aligned import AlignedEncoder
from posjax.encoders.modes import layers_that_pad
from posjax.encoders.resnet import ResNet
from posjax.encoders.vgg import VGG
from posjax.layers import MODES

DATA = tuple(mode for mode in MODES if mode != "valid")
# Small networks, the size of their images, and layers that are switched alone.
SMALL = {
    "vgg": (VGG(depth=8, batch_norm=True, divisor=4), 32, ("features.4",)),
    "cifar": (ResNet(blocks=(1, 1, 1), cifar=True), 12, ("layer2.0.conv1",)),
    "imagenet": (ResNet(blocks=(1, 1, 1, 1)), 33, ("layer2.0.conv1", "maxpool")),
}
QUICK = {"xla_backend_optimization_level": 0}
each_network = pytest.mark.parametrize("kind", SMALL)


def under(network, padding, **options):
    return network.clone(padding=Padding.parse(padding), **options)


@functools.cache
def compiled(network):
    """The one program: variables, images and modes to stages."""
    run = lambda v, x, modes: with_modes(network, modes).apply(v, x)  # noqa: E731
    return jax.jit(run, compiler_options=QUICK)


def modes_of(network, padding):
    return layer_modes(network, Padding.parse(padding))


def close(stages, expected):
    assert stages.keys() == expected.keys()
    for stage, x in stages.items():
        deviation = np.std(expected[stage])
        np.testing.assert_allclose(x, expected[stage], rtol=0, atol=1e-5 * deviation)


@pytest.fixture
def small(kind, numbered, images):
    network, size, _ = SMALL[kind]
    return network, numbered(network), images(0, 1, size, size)


@each_network
def test_modes_as_data_give_the_stages_of_modes_in_words(kind, small, encode):
    """Every mode by itself, under `vmap`, and for a single layer."""
    network, variables, x = small
    modes = np.stack([modes_of(network, mode) for mode in DATA])
    together = jax.vmap(compiled(network), in_axes=(None, None, 0))(variables, x, modes)
    for i, mode in enumerate(DATA):
        expected = encode(under(network, mode), variables, x)
        close(compiled(network)(variables, x, modes[i]), expected)
        close({stage: values[i] for stage, values in together.items()}, expected)
    for layer in SMALL[kind][2]:
        chosen = modes_of(network, f"reflect+{layer}=circular")
        switched = np.flatnonzero(chosen != chosen[0])
        assert [layers_that_pad(network)[i] for i in switched] == [layer]
        expected = encode(under(network, f"reflect+{layer}=circular"), variables, x)
        close(compiled(network)(variables, x, chosen), expected)


@each_network
def test_derivatives_under_modes_as_data_are_those_under_words(small):
    network, variables, x = small
    direction = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def first_two(encoder):
        def value(x):
            stages = encoder.apply(variables, x)
            return jnp.mean(stages["f1"] ** 2) + jnp.mean(stages["f2"] ** 2)

        return value

    by_data = first_two(with_modes(network, modes_of(network, "reflect")))
    by_words = first_two(under(network, "reflect"))
    gradients = [jax.jit(jax.grad(f))(x) for f in (by_data, by_words)]
    np.testing.assert_allclose(*gradients, atol=1e-4 * np.abs(gradients[1]).max())
    _, slope = jax.jit(lambda x, d: jax.jvp(by_data, (x,), (d,)))(x, direction)
    np.testing.assert_allclose(slope, np.sum(gradients[0] * direction), rtol=1e-3)


@each_network
def test_modes_as_data_are_exported_for_every_platform(small):
    network, variables, x = small
    modes = modes_of(network, "circular")
    platforms = ("cpu", "cuda", "tpu")
    exported = export.export(compiled(network), platforms=platforms)(variables, x, modes)
    close(exported.call(variables, x, modes), compiled(network)(variables, x, modes))


@pytest.fixture
def kept(tmp_path):
    """An empty folder that JAX keeps compiled programs in."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.mark.parametrize("kind", ["cifar"])
def test_one_compiled_program_on_disk_serves_every_mode(small, encode, kept):
    network, variables, x = small
    expected = {mode: encode(under(network, mode), variables, x) for mode in ("zeros", "reflect")}
    programs = []
    for mode, stages in expected.items():
        # As in a later process, nothing is compiled in memory.
        jax.clear_caches()
        close(compiled(network)(variables, x, modes_of(network, mode)), stages)
        programs.append({path.name for path in kept.iterdir() if "-cache" in path.name})
    assert programs[0]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("name", [n for n in encoders.names() if n != "pixels"])
def test_every_encoder_is_traced_and_lowered_with_modes_as_data(name):
    module = encoders.create(name)
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), shape)
    modes = jax.ShapeDtypeStruct((len(padded_layers(name)),), jnp.int32)
    lowered = compiled(module).lower(variables, shape, modes)
    assert [*lowered.out_info] == [*module.receptive_fields()]


@pytest.mark.parametrize(
    ("kind", "padding", "options", "size"),
    [
        ("cifar", "reflect+layer1.0.conv1=valid+layer2.0.conv2=circular", {}, 20),
        ("cifar", "reflect@cropped", {}, 64),
        ("cifar", "reflect@enlarged", {}, 64),
        ("imagenet", "reflect", {"pool_padding": "lowest"}, 33),
    ],
    ids=["valid layer", "cropped", "enlarged", "pool"],
)
def test_modes_as_data_keep_valid_layers_alignments_and_pools(
    kind, padding, options, size, numbered, encode, images
):
    padding, network, x = Padding.parse(padding), SMALL[kind][0], images(0, 1, size, size)
    shared, words = (under(network, p, **options) for p in (padding.shared, padding))
    if padding.alignment:
        shared, words = (
            AlignedEncoder(under(network, p.mode), p.alignment) for p in (padding.shared, padding)
        )
    variables = numbered(network)
    stages = compiled(shared)(variables, x, layer_modes(shared, padding))
    close(stages, encode(words, variables, x))


@pytest.mark.parametrize("count", [3, 30])
def test_as_many_modes_as_layers_are_needed(count):
    with pytest.raises(ValueError, match=rf"must be \[19\].*\({count},\)"):
        with_modes(encoders.create("resnet20"), np.zeros(count, np.int32))
