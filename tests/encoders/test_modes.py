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
from posjax.layers import MODES

DATA = tuple(mode for mode in MODES if mode != "valid")
# Name, image size in pixels, layers that are switched alone.
SMALL = {
    "vgg8_bn_quarter": (32, ("features.4",)),
    "resnet20": (12, ("layer2.0.conv1",)),
    "resnet18": (33, ("layer2.0.conv1", "maxpool")),
}
QUICK = {"xla_backend_optimization_level": 0}
each_encoder = pytest.mark.parametrize("name", SMALL)


def images_of(name, count=1):
    size = SMALL[name][0]
    return np.random.default_rng(0).uniform(0, 1, (count, size, size, 3)).astype(np.float32)


@functools.cache
def compiled(name, options=()):
    """The one program: variables, images and modes to stages."""
    module = encoders.create(name, **dict(options))
    run = lambda v, x, modes: with_modes(module, modes).apply(v, x)  # noqa: E731
    return jax.jit(run, compiler_options=QUICK)


def modes_of(name, padding):
    return layer_modes(encoders.create(name), Padding.parse(padding))


def close(stages, expected):
    assert stages.keys() == expected.keys()
    for stage, x in stages.items():
        deviation = np.std(expected[stage])
        np.testing.assert_allclose(x, expected[stage], rtol=0, atol=1e-5 * deviation)


@each_encoder
def test_modes_as_data_give_the_stages_of_modes_in_words(name, numbered, encode):
    """Every mode by itself, under `vmap`, and for a single layer."""
    variables, x = numbered(encoders.create(name)), images_of(name)
    modes = np.stack([modes_of(name, mode) for mode in DATA])
    together = jax.vmap(compiled(name), in_axes=(None, None, 0))(variables, x, modes)
    # On the largest, one mode that repeats pixels and the one that scales.
    for i in range(len(DATA)) if name != "resnet18" else (1, 5):
        expected = encode(encoders.create(name, DATA[i]), variables, x)
        close(compiled(name)(variables, x, modes[i]), expected)
        close({stage: values[i] for stage, values in together.items()}, expected)
    for layer in SMALL[name][1]:
        padding = f"reflect+{layer}=circular"
        chosen = modes_of(name, padding)
        assert np.flatnonzero(chosen != chosen[0]).tolist() == [padded_layers(name).index(layer)]
        expected = encode(encoders.create(name, padding), variables, x)
        close(compiled(name)(variables, x, chosen), expected)


@pytest.mark.parametrize("name", ["vgg8_bn_quarter", "resnet20"])
def test_derivatives_under_modes_as_data_are_those_under_words(name, numbered):
    variables, x = numbered(encoders.create(name)), images_of(name)
    modes = modes_of(name, "reflect")
    direction = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def first_two(encoder):
        def value(x):
            stages = encoder.apply(variables, x)
            return jnp.mean(stages["f1"] ** 2) + jnp.mean(stages["f2"] ** 2)

        return value

    by_data = first_two(with_modes(encoders.create(name), modes))
    by_words = first_two(encoders.create(name, "reflect"))
    gradients = [jax.jit(jax.grad(f))(x) for f in (by_data, by_words)]
    np.testing.assert_allclose(*gradients, atol=1e-4 * np.abs(gradients[1]).max())
    _, slope = jax.jit(lambda x, d: jax.jvp(by_data, (x,), (d,)))(x, direction)
    np.testing.assert_allclose(slope, np.sum(gradients[0] * direction), rtol=1e-3)


@each_encoder
def test_modes_as_data_are_exported_for_every_platform(name, numbered):
    variables, x, modes = (
        numbered(encoders.create(name)),
        images_of(name),
        modes_of(name, "circular"),
    )
    platforms = ("cpu", "cuda", "tpu")
    exported = export.export(compiled(name), platforms=platforms)(variables, x, modes)
    if name == "resnet20":
        close(exported.call(variables, x, modes), compiled(name)(variables, x, modes))


@pytest.fixture
def kept(tmp_path):
    """An empty folder that JAX keeps compiled programs in."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def test_one_compiled_program_on_disk_serves_every_mode(numbered, encode, kept):
    name = "resnet20"
    variables, x = numbered(encoders.create(name)), images_of(name)
    expected = {
        mode: encode(encoders.create(name, mode), variables, x) for mode in ("zeros", "reflect")
    }
    programs = []
    for mode, stages in expected.items():
        # As in a later process, nothing is compiled in memory.
        jax.clear_caches()
        close(compiled(name)(variables, x, modes_of(name, mode)), stages)
        programs.append({path.name for path in kept.iterdir() if "-cache" in path.name})
    assert programs[0]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_large_encoders_are_traced_and_lowered_with_modes_as_data(name):
    module = encoders.create(name)
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), shape)
    modes = jax.ShapeDtypeStruct((len(padded_layers(name)),), jnp.int32)
    lowered = compiled(name).lower(variables, shape, modes)
    stages = jax.eval_shape(module.apply, variables, shape)
    assert {k: v.shape for k, v in lowered.out_info.items()} == {
        k: v.shape for k, v in stages.items()
    }


@pytest.mark.parametrize(
    ("name", "padding", "options", "size"),
    [
        ("resnet20", "reflect+layer1.0.conv1=valid+layer2.0.conv2=circular", {}, 20),
        ("resnet20", "reflect@cropped", {}, 112),
        ("resnet20", "reflect@enlarged", {}, 112),
        ("resnet18", "reflect", {"pool_padding": "lowest"}, 33),
    ],
    ids=["valid layer", "cropped", "enlarged", "pool"],
)
def test_modes_as_data_keep_valid_layers_alignments_and_pools(
    name, padding, options, size, numbered, encode, images
):
    padding, x = Padding.parse(padding), images(0, 1, size, size)
    variables = numbered(encoders.create(name))
    shared = encoders.create(name, padding.shared, **options)
    program = compiled(name, (("padding", padding.shared), *options.items()))
    stages = program(variables, x, layer_modes(shared, padding))
    close(stages, encode(encoders.create(name, padding, **options), variables, x))


@pytest.mark.parametrize("count", [3, 30])
def test_as_many_modes_as_layers_are_needed(count):
    with pytest.raises(ValueError, match=rf"must be \[19\].*\({count},\)"):
        with_modes(encoders.create("resnet20"), np.zeros(count, np.int32))
