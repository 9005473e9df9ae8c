"""Probes: one encoder, every image once, one row for each readout and set of test images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from posjax.images import open_source
from posjax.runs import Encoder, Recipe, freeze, probe
from posjax.runs.groups import stage_names
from posjax.runtime.devices import local_devices
from posjax.runs.probe import measure
from posjax.results.records import to_records
from posjax.runs.workdir import Workdir

SIZE = 32
RECIPE = Recipe(maps=("H",), seeds=(0, 4), stages=("f3", "f2+f1"), epochs=2, batch_size=4)
ONE = local_devices(1)

# The CRC-32 of what the weights are called.
NAMED = "109b1431"


class Counted:
    """Images that note which of them are read."""

    def __init__(self, spec, limit, seed=0):
        self.source = open_source(spec, size=SIZE, limit=limit, seed=seed)
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
    variables = jax.device_get(Stem().init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3))))
    return Encoder(
        "stem", "w.npz", "zeros", None, Stem(), variables, "0123456789", "none", None
    )


def make_sources():
    return Counted("dead_leaves", 6), {"noise": Counted("noise", 5), "black": Counted("black", 1)}


@pytest.fixture(scope="module")
def probed(encoder, tmp_path_factory):
    """The records of one probe, its sources, and its cache."""
    cache = tmp_path_factory.mktemp("cache")
    images, tests = make_sources()
    records = probe(encoder, images, tests, RECIPE, cache_dir=cache, devices=ONE)
    return records, images, tests, cache


def test_a_row_for_each_shape_set_map_and_seed(probed):
    records, *_ = probed
    assert [(r.stages, r.test_images, r.map, r.seed) for r in records] == [
        (stages, test_images, "H", seed)
        for stages in ("f3", "f1+f2")
        for test_images in ("noise", "black")
        for seed in (0, 4)
    ]
    for record in records:
        about = (record.encoder, record.weights, record.padding, record.solver, record.depth)
        assert about == ("stem", "w.npz", "zeros", "sgd", 1)
        assert record.n_images == (5 if record.test_images == "noise" else 1)
        assert 0 <= record.mae <= 1
        assert record.mae_low <= record.mae <= record.mae_high
        assert record.spc_undefined or -1 <= record.spc <= 1


def test_every_image_passes_through_the_encoder_once(probed):
    _, images, tests, _ = probed
    # Encoding and each of the two shapes look at the first image for its size.
    assert sorted(images.seen) == sorted([*range(6), 0, 0, 0])
    # The first four test images are shown.
    assert sorted(tests["noise"].seen) == sorted([*range(5), 0, *range(4), *range(4)])


def test_the_cache_serves_a_second_probe(probed, encoder):
    records, *_, cache = probed
    images, tests = make_sources()
    again = probe(encoder, images, tests, RECIPE, cache_dir=cache, devices=ONE)
    assert again == records
    assert set(images.seen) <= {0}
    assert len(list(cache.iterdir())) == 3


def test_without_a_cache_nothing_is_left(probed, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    records = probe(encoder, *make_sources(), RECIPE, devices=ONE)
    assert records == probed[0]
    assert list(tmp_path.iterdir()) == []


def test_random_weights_are_probed_by_the_readout_of_their_seed(probed, encoder):
    random = dataclasses.replace(encoder, weights="random", seed=4)
    recipe = dataclasses.replace(RECIPE, stages=("f3",), maps=("H", "G"))
    records = probe(random, *make_sources(), recipe, cache_dir=probed[3], devices=ONE)
    assert [(r.weights, r.seed, r.test_images, r.map) for r in records] == [
        ("random", 4, test_images, name) for test_images in ("noise", "black") for name in "HG"
    ]
    of_seed = [r for r in probed[0] if (r.stages, r.seed) == ("f3", 4)]
    of_h = [(r.spc, r.mae) for r in records if r.map == "H"]
    np.testing.assert_allclose(of_h[0], (of_seed[0].spc, of_seed[0].mae), atol=1e-5)
    np.testing.assert_allclose(of_h[1][1], of_seed[1].mae, atol=1e-5)


def test_what_a_workdir_holds_is_not_measured_again(probed, encoder, tmp_path):
    workdir, cache = Workdir(tmp_path), probed[3]
    images, tests = make_sources()
    options = {"cache_dir": cache, "devices": ONE, "workdir": workdir}
    first, second = measure(encoder, images, tests, RECIPE, **options)
    assert {s.name for s in (tmp_path / "probes").iterdir()} == {
        f"stem-01234567-{NAMED}-zeros-{s}-depth1-kernel3-padding0.npz" for s in ("f3", "f2+f1")
    }
    gallery = first.galleries["noise"]
    assert gallery.images.shape == (4, SIZE, SIZE, 3)
    assert gallery.predictions.shape == (1, 4, SIZE, SIZE)
    expected = [np.rint(tests["noise"].source[i] * 255) for i in range(4)]
    np.testing.assert_array_equal(gallery.images, expected)

    class Untouchable:
        name, keys, skipped = "none", (), ()

        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise AssertionError("read once more")

        def digest(self):
            raise AssertionError("addressed once more")

    none = Untouchable()
    again = list(measure(encoder, none, {"noise": none, "black": none}, RECIPE, **options))
    for found, kept in zip(again, (first, second), strict=True):
        assert found.probe == kept.probe
        np.testing.assert_array_equal(found.losses, kept.losses)
        np.testing.assert_array_equal(found.scores["noise"].mae, kept.scores["noise"].mae)


@pytest.mark.parametrize(("padding", "undefined"), [("circular", 1), ("zeros", 0)])
def test_in_bfloat16_a_white_image_has_an_order_where_padding_gives_it_one(padding, undefined):
    frozen = freeze("vgg8_bn_quarter", "random", padding, dtype="bfloat16", seed=0)
    recipe = dataclasses.replace(RECIPE, stages=("all",))
    images, tests = make_sources()
    (_, white) = probe(frozen, images, tests | {"black": Counted("white", 1)}, recipe, devices=ONE)
    assert white.spc_undefined == undefined


class Apart(nn.Module):
    """Images with what coarse arithmetic may make of equal responses: one step of bfloat16."""

    @nn.compact
    def __call__(self, images):
        up = jax.random.bernoulli(jax.random.key(0), 0.01, images.shape)
        return {"f1": images * jnp.where(up, 1 + 2.0**-7, 1)}


@pytest.mark.parametrize(("dtype", "undefined"), [("float32", 0), ("bfloat16", 1)])
def test_the_rounding_of_an_encoder_decides_what_is_constant(encoder, dtype, undefined):
    frozen = dataclasses.replace(encoder, module=Apart(), variables={}, dtype=dtype)
    images, tests = make_sources()
    recipe = dataclasses.replace(RECIPE, stages=("f1",), seeds=(0,))
    noise, white = probe(
        frozen, images, tests | {"black": Counted("white", 1)}, recipe, devices=ONE
    )
    assert (noise.spc_undefined, white.spc_undefined) == (0, undefined)


RIDGE = dataclasses.replace(RECIPE, solver="ridge", maps=("H", "V"))


def test_closed_forms_have_no_seed_and_are_not_repeated(probed, encoder, tmp_path):
    workdir, options = Workdir(tmp_path), {"cache_dir": probed[3], "devices": ONE}
    first, second = measure(encoder, *make_sources(), RIDGE, workdir=workdir, **options)
    rows = [row for result in (first, second) for row in to_records(result)]
    assert [(r.stages, r.test_images, r.map, r.solver, r.seed) for r in rows] == [
        (stages, test_images, name, "ridge", None)
        for stages in ("f3", "f1+f2")
        for test_images in ("noise", "black")
        for name in "HV"
    ]
    assert first.losses.shape == (1, 2)
    assert set(first.path.chosen) <= set(first.path.penalties)
    assert first.galleries["noise"].predictions.shape == (2, 4, SIZE, SIZE)
    names = [
        f"stem-01234567-{NAMED}-zeros-{s}-depth1-kernel3-padding0-ridge" for s in ("f3", "f2+f1")
    ]
    assert {p.stem for p in (tmp_path / "probes").iterdir()} == set(names)
    kept = tmp_path / "probes" / f"{names[1]}.npz"
    kept.unlink()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "probes").iterdir()}
    # The readouts are still there, and are only scored again.
    again = list(measure(encoder, *make_sources(), RIDGE, workdir=workdir, **options))
    assert [row for result in again for row in to_records(result)] == rows
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert kept.exists()


def test_closed_forms_of_random_weights_have_the_encoders_seed(probed, encoder):
    random = dataclasses.replace(encoder, weights="random", seed=4)
    recipe = dataclasses.replace(RIDGE, stages=("f3",))
    records = probe(random, *make_sources(), recipe, cache_dir=probed[3], devices=ONE)
    assert [(r.weights, r.seed, r.map) for r in records] == [
        ("random", 4, "H"),
        ("random", 4, "V"),
    ] * 2


@pytest.mark.parametrize(
    ("stages", "names"),
    [("all", ("f1", "f2", "f3")), ("f2", ("f2",)), ("f3+f1", ("f1", "f3"))],
)
def test_stages_by_name(stages, names):
    assert stage_names(stages, ("f1", "f2", "f3")) == names


@pytest.mark.parametrize("stages", ["f4", "f1+f1", "", "f1+", "f1,f2", "All"])
def test_stages_that_there_are_not_are_refused(stages):
    with pytest.raises(ValueError, match=r"--stages.*'all' or different stages of f1, f2, f3"):
        stage_names(stages, ("f1", "f2", "f3"))
