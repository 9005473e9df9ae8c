"""Frozen encoders: which weights, which statistics, which sizes."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from posjax import encoders
from posjax.layers import MODES
from posjax.runs import freeze
from posjax.encoders.frozen import stage_shapes, statistics_of


@pytest.fixture(scope="module")
def random():
    """Random weights of three encoders: drawing them takes a while."""
    return {
        "seed 0": freeze("resnet20", "random", "zeros", seed=0),
        "valid": freeze("resnet20", "random", "valid", seed=0),
        "seed 1": freeze("resnet20", "random", "zeros", seed=1),
    }


def state_dict_of(variables):
    state = {}
    for (collection, *modules, leaf), array in flatten_dict(variables).items():
        key = ".".join(modules).replace("_", ".")
        if leaf == "kernel":
            state[f"{key}.weight"] = np.ascontiguousarray(np.einsum("hwio->oihw", array))
        elif collection == "batch_stats":
            state[f"{key}.running_{leaf}"] = array
        else:
            state[f"{key}.{'weight' if leaf == 'scale' else leaf}"] = array
    return state


def save(path, frozen, metadata=None):
    state = {k: np.asarray(v) for k, v in state_dict_of(frozen.variables).items()}
    if path.suffix == ".npz":
        np.savez(path, **state)
    else:
        safetensors.numpy.save_file(state, path, metadata)
    return str(path)


def same(one, other):
    equal = jax.tree.map(np.array_equal, one.variables, other.variables)
    return jax.tree.all(equal) and one.digest == other.digest


def test_random_weights_depend_on_the_seed_and_not_on_the_padding(random):
    assert same(random["seed 0"], random["valid"])
    assert not same(random["seed 0"], random["seed 1"])
    assert random["seed 0"].digest != random["seed 1"].digest
    assert random["valid"].module.padding == "valid"


def test_random_weights_need_a_seed_and_no_statistics(random):
    assert random["seed 1"].seed == 1
    assert random["seed 1"].normalize == "none"
    with pytest.raises(ValueError, match="seed"):
        freeze("resnet20", "random", "zeros")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_of_a_file(tmp_path, random, suffix):
    path = save(tmp_path / f"weights{suffix}", random["seed 1"])
    frozen = freeze("resnet20", path, "reflect", seed=5)
    assert same(frozen, random["seed 1"])
    assert (frozen.seed, frozen.weights, frozen.padding) == (None, path, "reflect")
    assert frozen.module == encoders.create("resnet20", "reflect")


def test_padding_in_a_path_stands_for_the_padding(tmp_path, random):
    save(tmp_path / "net_zeros.npz", random["seed 0"])
    save(tmp_path / "net_valid.npz", random["seed 1"])
    path = str(tmp_path / "net_{padding}.npz")
    assert same(freeze("resnet20", path, "zeros"), random["seed 0"])
    assert same(freeze("resnet20", path, "valid"), random["seed 1"])
    with pytest.raises(FileNotFoundError, match=r"net_reflect\.npz"):
        freeze("resnet20", path, "reflect")


def test_a_missing_file_never_means_random_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        freeze("resnet20", str(tmp_path / "none.npz"), "zeros", seed=0)


@pytest.mark.parametrize(
    ("metadata", "normalize", "expected"),
    [
        (None, "encoder", "imagenet"),
        ({"normalize": "cifar10"}, "encoder", "cifar10"),
        ({"normalize": "none"}, "encoder", "none"),
        ({"normalize": "cifar10"}, "imagenet", "imagenet"),
        ({"normalize": "cifar10"}, "none", "none"),
    ],
)
def test_images_are_normalised_as_the_file_says(tmp_path, random, metadata, normalize, expected):
    path = save(tmp_path / "weights.safetensors", random["seed 0"], metadata)
    assert freeze("resnet20", path, "zeros", normalize=normalize).normalize == expected


def test_statistics_of_a_file_that_are_unknown_are_refused(tmp_path, random):
    path = save(tmp_path / "weights.safetensors", random["seed 0"], {"normalize": "mnist"})
    with pytest.raises(ValueError, match=r"weights\.safetensors.*'mnist'.*--normalize"):
        freeze("resnet20", path, "zeros")
    assert freeze("resnet20", path, "zeros", normalize="none").normalize == "none"


def test_random_weights_take_other_statistics_on_demand():
    frozen = freeze("resnet20", "random", "zeros", normalize="cifar10", seed=0)
    assert frozen.normalize == "cifar10"
    mean, std = statistics_of("cifar10")
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], rtol=1e-6)
    np.testing.assert_allclose(std, [0.2470, 0.2435, 0.2616], rtol=1e-6)
    mean, std = statistics_of("none")
    np.testing.assert_array_equal([mean, std], [[0] * 3, [1] * 3])


def test_identity_is_what_determines_the_stages(random):
    identity = random["seed 0"].identity()
    assert identity == {
        "encoder": "resnet20",
        "digest": random["seed 0"].digest,
        "padding": "zeros",
        "pool_padding": None,
        "normalize": "none",
        "dtype": "float32",
    }
    assert random["valid"].identity() == identity | {"padding": "valid"}
    assert random["seed 1"].identity() != identity


def test_it_computes_in_the_dtype_that_is_asked_for_with_the_same_weights(random):
    narrow = freeze("resnet20", "random", "zeros", dtype="bfloat16", seed=0)
    assert same(narrow, random["seed 0"])
    assert narrow.identity() == random["seed 0"].identity() | {"dtype": "bfloat16"}
    for frozen in (narrow, random["seed 0"]):
        images = np.zeros((1, 32, 32, 3), np.float32)
        stages = jax.eval_shape(frozen.module.apply, frozen.variables, images)
        assert {str(stage.dtype) for stage in stages.values()} == {frozen.dtype}
    with pytest.raises(ValueError, match=r"^dtype: 'float16' .*bfloat16, float32"):
        freeze("resnet20", "random", "zeros", dtype="float16", seed=0)


def test_pixels_compute_nothing_in_no_dtype():
    assert freeze("pixels", "none", "zeros", dtype="bfloat16").dtype == "float32"


@pytest.mark.parametrize(("padding", "size"), [("zeros", 48), ("reflect", 33), ("valid", 96)])
def test_shapes_are_those_of_the_real_stages(random, padding, size):
    images = np.zeros((1, size, size, 3), np.float32)
    module = encoders.create("resnet20", padding)
    stages = jax.eval_shape(module.apply, random["seed 0"].variables, images)
    expected = {name: stage.shape[1:] for name, stage in stages.items()}
    assert stage_shapes("resnet20", padding, size) == expected
    assert list(expected) == ["f1", "f2", "f3", "f4"]


@pytest.mark.parametrize(("name", "padding"), [("vgg16", "reflect"), ("resnet18", "valid")])
def test_images_that_are_too_small_are_refused_with_the_smallest_size(name, padding):
    assert padding in MODES
    with pytest.raises(ValueError, match=r"--image_size=8\b.*smallest that works is (\d+)x\1") as e:
        stage_shapes(name, padding, 8)
    smallest = int(str(e.value).split("smallest that works is ")[1].split("x")[0])
    assert smallest > 8
    assert min(min(shape) for shape in stage_shapes(name, padding, smallest).values()) >= 1
    with pytest.raises(ValueError, match=rf"--image_size={smallest - 1}\b"):
        stage_shapes(name, padding, smallest - 1)
