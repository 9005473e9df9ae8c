"""Padding modes as data: one compiled encoder is every encoder that `create` makes in words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental.compilation_cache import compilation_cache

from posjax import encoders
from posjax.encoders import layer_modes, padded_layers, shared_padding, with_modes
from posjax.layers import MODES

DATA = tuple(mode for mode in MODES if mode != "valid")
# Name, image size in pixels, a convolution that is switched alone.
SMALL = {
    "vgg8_bn_quarter": (40, "features.4"),
    "resnet20": (20, "layer2.0.conv1"),
    "resnet18": (64, "layer2.0.conv1"),
}


def images_of(name, count=2):
    size = SMALL[name][0]
    return np.random.default_rng(0).uniform(0, 1, (count, size, size, 3)).astype(np.float32)


@functools.cache
def compiled(name):
    """The one program: variables, images and modes to stages."""
    module = encoders.create(name)
    return jax.jit(lambda v, x, modes: with_modes(module, modes).apply(v, x))


@functools.cache
def in_words(name, padding):
    return jax.jit(encoders.create(name, padding).apply)


def close(found, expected):
    assert found.keys() == expected.keys()
    for stage, x in found.items():
        deviation = np.std(expected[stage])
        np.testing.assert_allclose(x, expected[stage], rtol=0, atol=1e-5 * deviation)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("mode", DATA)
def test_a_mode_as_data_gives_the_stages_of_the_mode_in_words(name, mode, numbered):
    module, x = encoders.create(name), images_of(name)
    variables = numbered(module)
    found = compiled(name)(variables, x, layer_modes(module, mode))
    close(found, in_words(name, mode)(variables, x))


@pytest.mark.parametrize("name", SMALL)
def test_a_single_layer_is_switched_as_in_words(name, numbered):
    module, x = encoders.create(name), images_of(name)
    variables = numbered(module)
    layers = (SMALL[name][1], "maxpool") if name == "resnet18" else (SMALL[name][1],)
    for layer in layers:
        padding = f"reflect+{layer}=circular"
        modes = layer_modes(module, padding)
        assert np.flatnonzero(modes != modes[0]).tolist() == [padded_layers(name).index(layer)]
        found = compiled(name)(variables, x, modes)
        close(found, in_words(name, padding)(variables, x))


@pytest.mark.parametrize("name", SMALL)
def test_all_modes_at_once_by_vmap(name, numbered):
    module, x = encoders.create(name), images_of(name, 1)
    variables = numbered(module)
    modes = np.stack([layer_modes(module, mode) for mode in DATA])
    together = jax.jit(jax.vmap(compiled(name), in_axes=(None, None, 0)))(variables, x, modes)
    for i in range(len(DATA)):
        expected = compiled(name)(variables, x, modes[i])
        close({stage: values[i] for stage, values in together.items()}, expected)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_and_slopes_are_those_of_the_mode_in_words(name, numbered):
    module, x = encoders.create(name), images_of(name, 1)
    variables = numbered(module)
    modes = layer_modes(module, "reflect")
    direction = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def first_two(stages):
        return jnp.mean(stages["f1"] ** 2) + jnp.mean(stages["f2"] ** 2)

    def by_data(x):
        return first_two(with_modes(module, modes).apply(variables, x))

    def by_words(x):
        return first_two(encoders.create(name, "reflect").apply(variables, x))

    gradients = [jax.jit(jax.grad(f))(x) for f in (by_data, by_words)]
    scale = np.abs(gradients[1]).max()
    np.testing.assert_allclose(*gradients, atol=1e-4 * scale)
    _, slope = jax.jit(lambda x, d: jax.jvp(by_data, (x,), (d,)))(x, direction)
    np.testing.assert_allclose(slope, np.sum(gradients[0] * direction), rtol=1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_it_is_exported_for_every_platform_and_runs_as_exported(name, numbered):
    module, x = encoders.create(name), images_of(name)
    variables = numbered(module)
    modes = layer_modes(module, "circular")
    platforms = ("cpu", "cuda", "tpu")
    exported = export.export(compiled(name), platforms=platforms)(variables, x, modes)
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


@pytest.mark.parametrize("name", SMALL)
def test_its_compiled_program_is_kept_on_disk_and_serves_every_mode(name, numbered, kept):
    module, x = encoders.create(name), images_of(name, 1)
    variables = numbered(module)
    expected = {mode: in_words(name, mode)(variables, x) for mode in ("zeros", "reflect")}
    programs = []
    for mode, stages in expected.items():
        # As in a later process, nothing is compiled in memory.
        jax.clear_caches()
        close(compiled(name)(variables, x, layer_modes(module, mode)), stages)
        programs.append({path.name for path in kept.iterdir() if "-cache" in path.name})
    assert programs[0]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("name", [name for name in encoders.names() if name != "pixels"])
def test_every_encoder_is_traced_and_lowered_with_its_modes_as_data(name):
    module = encoders.create(name)
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), shape)
    modes = jax.ShapeDtypeStruct((len(padded_layers(name)),), jnp.int32)
    lowered = compiled(name).lower(variables, shape, modes)
    stages = jax.eval_shape(module.apply, variables, shape)
    assert jax.tree.map(lambda a: a.shape, lowered.out_info) == jax.tree.map(
        lambda a: a.shape, stages
    )


def test_a_layer_that_is_valid_stays_so_beside_modes_that_are_data(numbered):
    padding = "reflect+layer1.0.conv1=valid+layer2.0.conv2=circular"
    module, x = encoders.create("resnet20", shared_padding(padding)), images_of("resnet20")
    variables = numbered(encoders.create("resnet20"))
    found = with_modes(module, layer_modes(module, padding)).apply(variables, x)
    close(found, in_words("resnet20", padding)(variables, x))


@pytest.mark.parametrize("view", ["cropped", "enlarged"])
def test_a_view_is_that_of_the_mode_in_words(view, numbered):
    x = np.random.default_rng(0).uniform(0, 1, (1, 176, 176, 3)).astype(np.float32)
    module = encoders.create("resnet20", f"zeros@{view}")
    variables = numbered(encoders.create("resnet20"))
    modes = layer_modes(module, f"reflect@{view}")
    close(
        with_modes(module, modes).apply(variables, x),
        in_words("resnet20", f"reflect@{view}")(variables, x),
    )


def test_a_pool_with_a_padding_of_its_own_keeps_it(numbered):
    x = images_of("resnet18")
    lowest = encoders.create("resnet18", pool_padding="lowest")
    variables = numbered(lowest)
    found = with_modes(lowest, layer_modes(lowest, "reflect")).apply(variables, x)
    expected = encoders.create("resnet18", "reflect", pool_padding="lowest").apply(variables, x)
    close(found, expected)


@pytest.mark.parametrize("count", [3, 30])
def test_another_number_of_modes_than_of_layers_is_refused(count):
    with pytest.raises(ValueError, match=rf"must be \[19\].*\({count},\)"):
        with_modes(encoders.create("resnet20"), np.zeros(count, np.int32))


@pytest.mark.parametrize(
    ("padding", "shared"),
    [
        ("reflect", "zeros"),
        ("valid", "valid"),
        ("reflect+conv1=circular", "zeros"),
        ("zeros+conv1=valid+layer1.0.conv1=reflect", "zeros+conv1=valid"),
        ("valid+conv1=partial", "valid+conv1=zeros"),
        ("valid+conv1=valid", "valid"),
        ("partial@cropped", "zeros@cropped"),
        ("valid@enlarged", "valid@enlarged"),
    ],
)
def test_paddings_of_one_shape_share_one_program(padding, shared):
    assert shared_padding(padding) == shared
