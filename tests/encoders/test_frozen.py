"""Frozen encoders: their weights, statistics, stages and sizes."""

import os

import jax
import numpy as np
import pytest

from posjax import encoders
from posjax.encoders import STATISTICS, Encoder, Padding, frozen
from posjax.encoders.frozen import stage_shapes
from posjax.encoders.weights.export import to_safetensors

NAME = "vgg8_bn_quarter"


@pytest.fixture(scope="module")
def random():
    """Random weights are drawn once for each seed."""
    return frozen(NAME), frozen(NAME, padding="valid"), frozen(NAME, seed=1)


def save(path, encoder, metadata=None):
    about = {} if metadata is None else {"normalize": metadata}
    path.write_bytes(to_safetensors(encoder.name, encoder.variables, about, np.float32))
    return str(path)


def same_weights(one, other):
    equal = jax.tree.map(np.array_equal, one.variables, other.variables)
    return jax.tree.all(equal)


def test_random_weights_depend_on_the_seed_and_not_on_the_padding(random):
    zeros, valid, other = random
    assert same_weights(zeros, valid)
    assert zeros.digest == valid.digest != other.digest
    assert not same_weights(zeros, other)
    assert [encoder.seed for encoder in random] == [0, 0, 1]
    assert {encoder.normalize for encoder in random} == {"none"}
    assert [encoder.padding_text for encoder in random] == ["zeros", "valid", "zeros"]
    assert valid.network.padding == Padding("valid")


def test_weights_of_a_file_are_read_without_their_head(tmp_path, random):
    path = save(tmp_path / "w.safetensors", random[2])
    encoder = frozen(NAME, path, "reflect", seed=5)
    assert same_weights(encoder, random[2])
    assert (encoder.seed, encoder.weights, encoder.padding) == (None, path, Padding("reflect"))
    shipped = frozen("resnet20", "cifar10", "reflect")
    assert "linear" in encoders.load("resnet20", "cifar10:reflect")["params"]
    assert "linear" not in shipped.variables["params"]
    assert shipped.normalize == "cifar10"


def test_a_path_may_hold_the_padding_mode_and_the_encoder(tmp_path, random):
    for encoder, mode in zip(random[1:], ("zeros", "valid"), strict=True):
        save(tmp_path / f"{NAME}_{mode}.safetensors", encoder)
    path = str(tmp_path / "{encoder}_{padding}.safetensors")
    assert same_weights(frozen(NAME, path, "zeros+features.0=valid"), random[1])
    assert same_weights(frozen(NAME, path, "valid"), random[2])
    with pytest.raises(FileNotFoundError, match=r"_reflect\.safetensors"):
        frozen(NAME, path, "reflect")


def test_a_file_that_was_overwritten_is_read_again(tmp_path, random):
    for encoder in (random[0], random[2]):
        path = save(tmp_path / "w.safetensors", encoder)
        os.utime(path, ns=(0, 0 if encoder is random[0] else 1))
        assert same_weights(frozen(NAME, path), encoder)


@pytest.mark.parametrize(
    ("metadata", "normalize", "expected"),
    [
        (None, "encoder", "imagenet"),
        ("cifar10", "encoder", "cifar10"),
        ("none", "encoder", "none"),
        ("cifar10", "imagenet", "imagenet"),
        ("mnist", "none", "none"),
    ],
)
def test_statistics_are_those_of_the_file_unless_named(
    tmp_path, random, metadata, normalize, expected
):
    path = save(tmp_path / "weights.safetensors", random[0], metadata)
    assert frozen(NAME, path, normalize=normalize).normalize == expected


def test_unknown_arguments_and_statistics_are_refused(tmp_path, random):
    path = save(tmp_path / "weights.safetensors", random[0], "mnist")
    with pytest.raises(
        ValueError, match=r"weights\.safetensors.*'mnist'.*choose normalize of none"
    ):
        frozen(NAME, path)
    with pytest.raises(ValueError, match=r"^normalize: 'mnist' .*encoder, none, imagenet, cifar10"):
        frozen(NAME, normalize="mnist")
    with pytest.raises(ValueError, match=r"^dtype: 'float16' .*bfloat16, float32"):
        frozen(NAME, dtype="float16")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        frozen(NAME, str(tmp_path / "none.safetensors"))


def test_fingerprint_is_what_determines_the_stages(random):
    zeros, valid, other = random
    fingerprint = zeros.fingerprint()
    assert fingerprint == {
        "encoder": NAME,
        "digest": zeros.digest,
        "padding": "zeros",
        "pool_padding": None,
        "normalize": "none",
        "dtype": "float32",
    }
    assert valid.fingerprint() == fingerprint | {"padding": "valid"}
    assert other.fingerprint() == fingerprint | {"digest": other.digest}
    narrow = frozen(NAME, dtype="bfloat16", normalize="cifar10")
    assert narrow.fingerprint() == fingerprint | {"dtype": "bfloat16", "normalize": "cifar10"}


def test_stages_are_those_of_the_network_on_normalised_images(random, encode, images):
    x, padding = images(0, 1, 32, 32), "reflect+features.0=circular"
    encoder = frozen(NAME, padding=padding, normalize="cifar10")
    mean, deviation = map(np.float32, STATISTICS["cifar10"])
    network = encoders.create(NAME, padding)
    expected = encode(network, encoder.variables, (x - mean) / deviation)
    for made in (encoder, encoder.with_padding_as_data()):
        quick = {"xla_backend_optimization_level": 0}
        stages = jax.jit(made.apply, compiler_options=quick)(encoder.variables, x)
        for name, values in expected.items():
            np.testing.assert_allclose(stages[name], values, atol=1e-4 * values.std())


def test_encoders_whose_modes_are_integers_share_a_network_and_differ_in_modes():
    one, other = (
        frozen(NAME, padding=padding).with_padding_as_data()
        for padding in ("reflect", "zeros+features.0=circular")
    )
    assert one.network == other.network
    assert one.modes != other.modes
    assert one.padding_text == "reflect"
    pixels = frozen("pixels")
    assert pixels.with_padding_as_data() is pixels


def test_stages_are_computed_in_the_dtype(random):
    encoder = frozen(NAME, dtype="bfloat16")
    assert same_weights(encoder, random[0])
    images = np.zeros((1, 32, 32, 3), np.float32)
    stages = jax.eval_shape(encoder.apply, encoder.variables, images)
    assert {str(stage.dtype) for stage in stages.values()} == {"bfloat16"}


def test_pixels_have_neither_weights_nor_padding_and_stay_in_float32():
    pixels = frozen("pixels", dtype="bfloat16", padding="reflect")
    assert pixels == Encoder("pixels", encoders.create("pixels"), {}, None, "none")
    assert (pixels.padding_text, pixels.margins, pixels.dtype) == ("none", (0, 0), "float32")
    assert frozen("pixels", normalize="imagenet").normalize == "imagenet"
    assert pixels.stage_shapes(9) == {"f1": (9, 9, 3)}


@pytest.mark.parametrize(
    ("padding", "size"),
    [("zeros", 48), ("reflect+features.0=circular", 33), ("valid", 96), ("valid@enlarged", 32)],
)
def test_stage_shapes_are_those_of_the_stages_of_the_probed_part(padding, size, shapes):
    encoder = frozen(NAME, padding=padding)
    side = size + sum(encoder.margins)
    assert (side > size) == ("enlarged" in padding)
    expected = shapes(encoder.network, side, side)
    assert encoder.stage_shapes(size) == expected
    assert encoder.with_padding_as_data().stage_shapes(size) == expected
    assert stage_shapes(NAME, Padding.parse(padding), size) == expected


@pytest.mark.parametrize(
    ("padding", "smallest"), [("circular+features.0=reflect", 16), ("valid", 78)]
)
def test_images_that_are_too_small_are_refused_with_the_smallest_size(padding, smallest):
    padding = Padding.parse(padding)
    assert stage_shapes(NAME, padding, smallest)["f5"][:2] == (1, 1)
    with pytest.raises(ValueError, match=rf"smallest that works is {smallest}x{smallest}"):
        stage_shapes(NAME, padding, smallest - 1)
