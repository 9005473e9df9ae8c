"""Measuring: one encoder, every image once, one result for each architecture of readouts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from posjax import runtime
from posjax.encoders import Encoder, Padding
from posjax.features import Store
from posjax.images import open_source
from posjax.layers import conv
from posjax.probes.controls import Task
from posjax.results import to_records
from posjax.runs import ReadoutSettings
from posjax.runs.image_sets import ImageSets
from posjax.runs.measure import Probe, Resources, measure
from posjax.runs.workdir import Workdir

SIZE = 32
SETTINGS = ReadoutSettings(
    maps=("H",), seeds=(0, 4), stages=("f3", "f2+f1"), epochs=2, batch_size=4
)
RIDGE = dataclasses.replace(SETTINGS, solver="ridge", maps=("H", "V"), stages=("f3",))
# The CRC-32 of the weights' name.
NAMED = "109b1431"


class Counted:
    """Images that note which of them are read."""

    def __init__(self, spec, limit):
        self.source = open_source(spec, size=SIZE, limit=limit)
        self.name, self.keys, self.skipped = spec, self.source.keys, ()
        self.seen = []

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.seen.append(index)
        return self.source[index]

    def digest(self):
        return self.source.digest()


class Stem(nn.Module):
    """An encoder of three convolutions, for speed."""

    @nn.compact
    def __call__(self, images):
        f1 = nn.relu(nn.Conv(4, (3, 3))(images))
        f2 = nn.relu(nn.Conv(6, (3, 3), (2, 2))(f1))
        return {"f1": f1, "f2": f2, "f3": nn.relu(nn.Conv(8, (3, 3), (2, 2))(f2))}


@pytest.fixture(scope="module")
def encoder():
    """As if from a file: the seeds are those of the readouts."""
    variables = jax.device_get(
        jax.jit(Stem().init)(jax.random.key(0), np.zeros((1, SIZE, SIZE, 3)))
    )
    return Encoder("stem", Stem(), variables, Padding("zeros"), "w.npz", "0123456789")


def make_sets(second="black"):
    tests = {"noise": Counted("noise", 5), second: Counted(second, 1)}
    return ImageSets(Counted("dead_leaves", 6), tests)


def results(encoder, settings=SETTINGS, sets=None, cache=None, workdir=None):
    store = Store(cache_dir=cache, memory_bytes=1 << 30)
    resources = Resources(runtime.local_devices(1), store)
    tasks = tuple(map(Task, settings.maps))
    probe = Probe(encoder, sets or make_sets(), SIZE, tasks)
    return list(measure(probe, settings, resources, workdir))


def records(*args, **options):
    return [record for result in results(*args, **options) for record in to_records(result)]


@pytest.fixture(scope="module")
def measured(encoder, tmp_path_factory):
    """The records of one encoder, its images, and its cache."""
    cache = tmp_path_factory.mktemp("cache")
    sets = make_sets()
    return records(encoder, sets=sets, cache=cache), sets, cache


def test_there_is_a_row_for_each_architecture_set_map_and_seed(measured):
    assert [(r.stages, r.test_images, r.map, r.seed) for r in measured[0]] == [
        (stages, test_images, "H", seed)
        for stages in ("f3", "f1+f2")
        for test_images in ("noise", "black")
        for seed in (0, 4)
    ]
    for record in measured[0]:
        about = (record.encoder, record.weights, record.padding, record.solver, record.depth)
        assert about == ("stem", "w.npz", "zeros", "sgd", 1)
        assert record.n_images == (5 if record.test_images == "noise" else 1)
        assert record.mae_low <= record.mae <= record.mae_high
        assert record.spc_undefined or -1 <= record.spc <= 1


def test_every_image_passes_through_the_encoder_once(measured):
    _, sets, _ = measured
    assert sorted(sets.train.seen) == [*range(6)]
    # The first four test images are shown, once for each architecture.
    assert sorted(sets.tests["noise"].seen) == sorted([*range(5), *range(4), *range(4)])


def test_the_cache_serves_a_second_measurement(measured, encoder):
    sets = make_sets()
    assert records(encoder, sets=sets, cache=measured[2]) == measured[0]
    assert sets.train.seen == []


def test_a_random_encoder_is_probed_by_the_readout_of_its_seed(measured, encoder):
    random = dataclasses.replace(encoder, weights="random", seed=4)
    settings = dataclasses.replace(SETTINGS, stages=("f3",), maps=("H", "G"))
    found = records(random, settings, cache=measured[2])
    assert [(r.weights, r.seed, r.test_images, r.map) for r in found] == [
        ("random", 4, test_images, name) for test_images in ("noise", "black") for name in "HG"
    ]
    same = [r.mae for r in measured[0] if (r.stages, r.seed) == ("f3", 4)]
    np.testing.assert_allclose([r.mae for r in found if r.map == "H"], same, atol=1e-5)


class Untouchable:
    name, keys, skipped = "none", (), ()

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise AssertionError("read once more")

    def digest(self):
        raise AssertionError("addressed once more")


def test_results_in_the_workdir_are_not_measured_again(measured, encoder, tmp_path):
    workdir = Workdir(tmp_path)
    first, second = results(encoder, cache=measured[2], workdir=workdir)
    assert {path.name for path in (tmp_path / "probes").iterdir()} == {
        f"stem-01234567-{NAMED}-zeros-{s}-depth1-kernel3-padding0.npz" for s in ("f3", "f1+f2")
    }
    gallery = first.galleries["noise"]
    assert gallery.images.shape == (4, SIZE, SIZE, 3)
    assert gallery.predictions.shape == (1, 4, SIZE, SIZE)
    images = [np.rint(measured[1].tests["noise"].source[i] * 255) for i in range(4)]
    np.testing.assert_array_equal(gallery.images, images)
    none = Untouchable()
    again = results(encoder, sets=ImageSets(none, {"noise": none}), workdir=workdir)
    for found, kept in zip(again, (first, second), strict=True):
        assert found.probe == kept.probe
        np.testing.assert_array_equal(found.losses, kept.losses)
        np.testing.assert_array_equal(found.scores["noise"].mae, kept.scores["noise"].mae)


class Mean(nn.Module):
    """Means of 3 x 3 pixels in bfloat16, which zero padding darkens along the border."""

    mode: str

    def __call__(self, images):
        kernel = jnp.full((3, 3, 3, 3), 1 / 27, jnp.bfloat16)
        return {"f1": conv(images.astype(jnp.bfloat16), kernel, mode=self.mode)}


@pytest.mark.parametrize(("mode", "undefined"), [("circular", 1), ("zeros", 0)])
def test_in_bfloat16_a_white_image_has_an_order_where_padding_gives_it_one(
    encoder, mode, undefined
):
    mean = dataclasses.replace(encoder, network=Mean(mode), variables={}, dtype="bfloat16")
    settings = dataclasses.replace(SETTINGS, stages=("f1",), seeds=(0,))
    _, white = records(mean, settings, make_sets("white"))
    assert white.spc_undefined == undefined


class Apart(nn.Module):
    """Images with what coarse arithmetic may make of equal responses: one step of bfloat16."""

    @nn.compact
    def __call__(self, images):
        up = jax.random.bernoulli(jax.random.key(0), 0.01, images.shape)
        return {"f1": images * jnp.where(up, 1 + 2.0**-7, 1)}


@pytest.mark.parametrize(("dtype", "undefined"), [("float32", 0), ("bfloat16", 1)])
def test_the_rounding_of_an_encoder_decides_what_is_constant(encoder, dtype, undefined):
    apart = dataclasses.replace(encoder, network=Apart(), variables={}, dtype=dtype)
    settings = dataclasses.replace(SETTINGS, stages=("f1",), seeds=(0,))
    noise, white = records(apart, settings, make_sets("white"))
    assert (noise.spc_undefined, white.spc_undefined) == (0, undefined)


@pytest.mark.parametrize(("weights", "seed"), [("w.npz", None), ("random", 4)])
def test_closed_forms_have_no_seed_except_the_encoder_s(measured, encoder, weights, seed):
    encoder = dataclasses.replace(encoder, weights=weights, seed=seed)
    (result,) = results(encoder, RIDGE, cache=measured[2])
    assert [(r.test_images, r.map, r.solver, r.seed) for r in to_records(result)] == [
        (test_images, name, "ridge", seed) for test_images in ("noise", "black") for name in "HV"
    ]
    assert result.losses.shape == (1, 2)
    assert set(result.path.chosen) <= set(result.path.penalties)
    assert result.galleries["noise"].predictions.shape == (2, 4, SIZE, SIZE)


def test_stages_on_disk_are_deleted_at_the_end_without_a_cache(encoder, tmp_path):
    resources = Resources(runtime.local_devices(1), Store(scratch=tmp_path / "scratch"))
    probe = Probe(encoder, make_sets(), SIZE, (Task("H"),))
    settings = dataclasses.replace(SETTINGS, stages=("f3",))
    (result,) = measure(probe, settings, resources)
    assert len(to_records(result)) == 4
    assert list(tmp_path.iterdir()) == []
