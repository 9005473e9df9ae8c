"""Memory: what cannot fit is refused by the plan, and what runs is not."""

import jax
import numpy as np
import pytest

from posjax import encoders
from posjax.encoders import Padding
from posjax.fitting import ReadoutSpec
from posjax.runs import Settings
from posjax.runs.memory import images_need, readouts_needs
from posjax.runs.plan import prepare
from posjax.runtime import check_memory, memory_bytes
from posjax.runtime.memory import Need


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image_size": 200_000},
            r"^image_size: a network on 2 images of 200,000 pixels a side at a time needs at least "
            r"[\d,.]+ GB of memory, and this machine has [\d,.]+ GB: choose a smaller image_size",
        ),
        (
            {"weights": ("cifar10",), "encoder": ("resnet20",), "seeds": tuple(range(100_000))}
            | {"depths": (3,), "kernel_sizes": (7,)},
            r"^depths: to train 100,000 readouts of depth 3 and kernel size 7 needs at least [\d,]+"
            r"\.\d GB of memory, and this machine has [\d,.]+ GB: choose fewer maps, seeds",
        ),
        (
            {"encoder": ("pixels",), "seeds": tuple(range(100_000)), "image_size": 5_000},
            r"^image_size: position maps of 5,000 pixels a side for 100,000 readouts",
        ),
        (
            {"solver": "ridge", "image_size": 200_000},
            r"^image_size: a network on 2 images of 200,000 pixels",
        ),
    ],
)
def test_what_cannot_fit_is_refused_before_anything_is_computed(tmp_path, changes, message):
    values = {
        "encoder": ("vgg8_bn_quarter",),
        "paddings": ("zeros",),
        "images": "noise",
        "test_images": ("noise",),
        "num_train": 4,
        "num_test": 2,
        "batch_size": 2,
        "image_size": 32,
        "maps": ("H",),
        "workdir": tmp_path / "run",
        "devices": 1,
    }
    with pytest.raises(ValueError, match=message):
        prepare(Settings(**values | changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["vgg16", "resnet152"])
def test_the_paper_s_recipe_fits_into_24_gib(name):
    shapes = encoders.stage_shapes(name, Padding("zeros"), 224)
    spec = ReadoutSpec(tuple(shapes))
    for need in (images_need(shapes, 224, 32), *readouts_needs(spec, shapes, 50, 224, 32)):
        assert need.host + need.device < 8 * 2**30


@pytest.mark.parametrize(("depth", "kernel_size"), [(1, 3), (2, 5), (3, 1)])
def test_readouts_need_no_more_than_their_parameters_and_responses(depth, kernel_size):
    shapes = {"f1": (28, 28, 12), "f2": (14, 14, 20)}
    spec = ReadoutSpec(tuple(shapes), depth, kernel_size)
    stages = {name: np.zeros((1, *shape), np.float32) for name, shape in shapes.items()}
    variables = jax.eval_shape(spec.readout(32).init, jax.random.key(0), stages)
    actual = sum(leaf.size * 4 for leaf in jax.tree.leaves(variables["params"]))
    training, maps = readouts_needs(spec, shapes, 7, 32, 3)
    assert 0.9 * 2 * 7 * actual <= training.host <= 2 * 7 * actual
    assert training.device > training.host
    assert maps.device == 7 * 32 * 32 * 4


def test_images_need_less_in_bfloat16_and_more_for_a_gradient():
    shapes = encoders.stage_shapes("vgg16", Padding("zeros"), 224)
    whole = images_need(shapes, 224, 2).device
    assert whole >= 2 * 4 * 224 * 224 * 64
    assert images_need(shapes, 224, 2, "bfloat16").device < whole
    assert images_need(shapes, 224, 2, backward=True).device > whole


def test_devices_of_a_cpu_share_the_memory():
    one = memory_bytes() // 2 - 1
    check_memory([Need("a", "b", device=one)], jax.local_devices()[:2])
    check_memory([Need("a", "b", one, one)], jax.local_devices()[:1])
    with pytest.raises(ValueError, match=r"^a needs at least .* this machine has .* GB: b$"):
        check_memory([Need("a", "b", device=one)], jax.local_devices()[:3])
