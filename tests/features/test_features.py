"""Features: addressed by all that determines them, there whole or not at all, encoded once."""

import dataclasses
import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image
from toy import ENCODER, VARIABLES, Noise, Stem, arrays, entries, run

from posjax.images import open_source
from posjax.layers import resize_bilinear
from posjax.features import store as cache
from posjax.features import features
from posjax.features.features import Features, bytes_per_image
from posjax.encoders.frozen import statistics_of


class Forbidden(nn.Module):
    """An encoder that must not be asked."""

    def __call__(self, images):
        raise AssertionError("encoded once more")


def refuse(index):
    raise AssertionError("read once more")


@pytest.fixture
def every_batch(monkeypatch):
    """What is written is made safe after each batch."""
    monkeypatch.setattr(cache, "SECONDS_BETWEEN", 0.0)


def test_features_are_the_encoder_s_stages_of_the_normalised_images(tmp_path):
    encoder = dataclasses.replace(ENCODER, normalize="imagenet")
    found = run(tmp_path, encoder)
    images = np.stack(list(Noise()))
    mean, std = statistics_of("imagenet")
    stages = Stem().apply(VARIABLES, (images - mean) / std)
    assert len(found) == 5
    assert set(found.stages) == {"f1", "f2"}
    np.testing.assert_allclose(found.stages["f2"], stages["f2"], atol=1e-5)
    small = resize_bilinear(stages["f1"], (28, 28), align_corners=True)
    np.testing.assert_allclose(found.stages["f1"], small, atol=1e-5)


def test_stages_are_stored_at_28_pixels_or_at_their_own_size_where_that_is_smaller(tmp_path):
    found = run(tmp_path)
    assert found.stages["f1"].shape == (5, 28, 28, 4)  # of 32
    assert found.stages["f2"].shape == (5, 16, 16, 6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_room_on_disk_is_what_was_planned(tmp_path, dtype):
    run(tmp_path, dtype=dtype)
    (folder,) = tmp_path.iterdir()
    shapes = {"f1": (32, 32, 4), "f2": (16, 16, 6)}
    header = 128  # of an .npy file
    room = sum(path.stat().st_size - header for path in folder.glob("*.npy"))
    assert room == 5 * bytes_per_image(shapes, (28, 28), dtype)


def test_bfloat16_is_float32_but_for_its_rounding(tmp_path):
    wide, narrow = arrays(run(tmp_path)), arrays(run(tmp_path, dtype="bfloat16"))
    for name, stage in narrow.items():
        assert stage.dtype == jnp.bfloat16
        error = np.abs(stage.astype(np.float32) - wide[name])
        assert error.max() > 0
        assert (error <= 2.0**-8 * wide[name]).all()


def test_rows_are_the_chosen_images_of_the_chosen_stages(tmp_path):
    found = run(tmp_path)
    rows = found.rows(np.array([4, 1, 2, 2]), ("f2",))
    assert set(rows) == {"f2"}
    np.testing.assert_array_equal(rows["f2"], arrays(found)["f2"][[4, 1, 2, 2]])
    assert found.rows(np.arange(0), ("f2",))["f2"].shape == (0, 16, 16, 6)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_image_that_there_is_not_has_no_rows(tmp_path, index):
    with pytest.raises(IndexError, match="has 5 images"):
        run(tmp_path).rows(np.array([0, index]), ("f1",))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
def test_a_last_smaller_batch_is_encoded_like_the_others(tmp_path, batch_size):
    found = run(tmp_path / "a", batch_size=batch_size)
    for name, stage in arrays(run(tmp_path / "b")).items():
        assert np.abs(stage).max(axis=(1, 2, 3)).all()
        np.testing.assert_allclose(found.stages[name], stage, atol=1e-6)


def test_what_was_encoded_is_neither_read_nor_encoded_again(tmp_path):
    first = run(tmp_path, source=Noise(at=(seen := []).append))
    assert sorted(seen) == [0, 0, 1, 2, 3, 4]  # the first one twice, for its size
    forbidden = dataclasses.replace(ENCODER, module=Forbidden())
    again = run(tmp_path, forbidden, Noise(at=refuse), batch_size=3)
    jax.tree.map(np.testing.assert_array_equal, arrays(again), arrays(first))
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        *[{"padding": "reflect"}, {"digest": "abd"}, {"normalize": "cifar10"}],
        *[{"pool_padding": "lowest"}, {"name": "resnet20"}, {"dtype": "bfloat16"}],
    ],
    ids=str,
)
def test_another_encoder_has_other_features(tmp_path, change):
    run(tmp_path)
    forbidden = dataclasses.replace(ENCODER, module=Forbidden(), **change)
    with pytest.raises(AssertionError, match="encoded once more"):
        run(tmp_path, forbidden)


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"feature_size": (14, 14)}], ids=str)
def test_another_form_has_other_features(tmp_path, options):
    run(tmp_path)
    with pytest.raises(AssertionError, match="encoded once more"):
        run(tmp_path, dataclasses.replace(ENCODER, module=Forbidden()), **options)


def test_another_precision_has_other_features_whatever_it_is_called(tmp_path):
    run(tmp_path)
    forbidden = dataclasses.replace(ENCODER, module=Forbidden())
    with jax.default_matmul_precision("bfloat16"):
        run(tmp_path, forbidden, Noise(at=refuse))
    with (
        jax.default_matmul_precision("float32"),
        pytest.raises(AssertionError, match="encoded once more"),
    ):
        run(tmp_path, forbidden)


class Flat(nn.Module):
    """Equal responses everywhere, each channel its own number, in bfloat16."""

    def __call__(self, images):
        levels = jnp.linspace(0.1, 3, 64, dtype=jnp.bfloat16)
        return {"f1": jnp.broadcast_to(levels, (*images.shape[:3], 64))}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_responses_that_are_equal_in_bfloat16_stay_so_at_28_pixels(tmp_path, dtype):
    flat = dataclasses.replace(ENCODER, module=Flat(), variables={}, dtype="bfloat16")
    stage = arrays(run(tmp_path, flat, dtype=dtype))["f1"].astype(np.float32)
    assert stage.shape == (5, 28, 28, 64)
    equal = np.broadcast_to(stage[:1, :1, :1], stage.shape)
    np.testing.assert_allclose(stage, equal, rtol=3e-7)


def test_weights_that_are_called_otherwise_are_the_same(tmp_path):
    run(tmp_path)
    same = dataclasses.replace(ENCODER, module=Forbidden(), weights="a.npz", seed=None)
    run(tmp_path, same, Noise(at=refuse))


def test_other_bytes_under_the_same_name_or_another_size_have_other_features(tmp_path):
    photos, stored = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()

    def save(level):
        Image.new("RGB", (32, 32), (level, 9, 200)).save(photos / "a.png")

    def first_value(size=32):
        found = run(stored, source=open_source(str(photos), size=size))
        return found.rows(np.arange(1), ("f2",))["f2"][0, 3, 3]

    save(0)
    black = first_value()
    save(255)
    assert np.abs(first_value() - black).max() > 0.01
    assert len(entries(stored)) == 2
    first_value(size=40)
    assert len(entries(stored)) == 3
    save(0)
    np.testing.assert_array_equal(first_value(), black)
    assert len(entries(stored)) == 3


def test_an_image_that_cannot_be_read_leaves_nothing(tmp_path, every_batch):
    def fail(index):
        if index == 3:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(tmp_path, source=Noise(at=fail), batch_size=1)
    assert entries(tmp_path) == []
    assert len(run(tmp_path)) == 5


def test_features_that_are_not_finite_name_the_image(tmp_path):
    class Black(Noise):
        def __getitem__(self, index):
            return super().__getitem__(index) * np.float32(index != 3)

    class Logarithm(nn.Module):
        def __call__(self, images):
            return {"f1": jnp.log(images.max(axis=(1, 2), keepdims=True))}

    encoder = dataclasses.replace(ENCODER, module=Logarithm(), variables={})
    with pytest.raises(ValueError, match=r"stem under padding zeros .* image noise/3 of noise"):
        run(tmp_path, encoder, source=Black())
    assert entries(tmp_path) == []


def test_a_new_recipe_does_not_find_what_an_old_one_stored(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(features, "RECIPE", features.RECIPE + 1)
    with pytest.raises(AssertionError, match="encoded once more"):
        run(tmp_path, dataclasses.replace(ENCODER, module=Forbidden()))


def test_batches_are_read_ahead_by_one_in_a_thread_that_ends_with_them():
    here = threading.current_thread()
    read, threads = [], set()

    class Watched(Features):
        def rows(self, index, stages):
            read.append(int(index[0]))
            threads.add(threading.current_thread())
            if index[0] == 3:
                raise ValueError("image 3 is broken")
            return super().rows(index, stages)

    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    indices = iter([np.array([i]) for i in (5, 0, 3, 1, 2)])
    batches = Watched({"f1": values, "f2": values}).stream(indices, ("f2",))
    assert not read
    first = next(batches)
    assert first.keys() == {"f2"}
    np.testing.assert_array_equal(first["f2"], values[[5]])
    np.testing.assert_array_equal(next(batches)["f2"], values[[0]])
    with pytest.raises(ValueError, match="image 3 is broken"):
        next(batches)
    assert read[:3] == [5, 0, 3]
    assert read in ([5, 0, 3], [5, 0, 3, 1])
    assert here not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_closed_early_nothing_more_is_read():
    class Watched(Features):
        def rows(self, index, stages):
            threads.add(threading.current_thread())
            return super().rows(index, stages)

    threads = set()
    endless = (np.array([i % 5]) for i in itertools.count())
    batches = Watched({"f1": np.arange(5)}).stream(endless, ("f1",))
    next(batches)
    batches.close()
    assert len(threads) == 1
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("damage", ["f1.npy lost", "f2.npy cut", "about.json lost"])
def test_features_that_were_damaged_are_refused_by_name(tmp_path, damage):
    run(tmp_path)
    (name,) = entries(tmp_path)
    file = tmp_path / name / damage.split()[0]
    if damage.endswith("lost"):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{name} are damaged .* delete that folder"):
        run(tmp_path)
