"""Features: addressed by all that determines them, encoded once, read by rows."""

import dataclasses
import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image
from toy import BYTES, ENCODER, SIZE, VARIABLES, Noise, Stem, arrays, files, refuse, run

from posjax.encoders import Padding, normalised
from posjax.features import Features, Store, features
from posjax.images import open_source
from posjax.layers import resize_bilinear

MEMORY = Store(memory_bytes=BYTES)


class Forbidden(nn.Module):
    """An encoder that may give its shapes, but not its stages."""

    def __call__(self, images):
        if not images.shape[0] == 1:
            raise AssertionError("encoded once more")
        return {
            "f1": jnp.zeros((1, SIZE, SIZE, 4)),
            "f2": jnp.zeros((1, SIZE // 2, SIZE // 2, 6)),
        }


FORBIDDEN = dataclasses.replace(ENCODER, network=Forbidden())


def encoded_again(store, encoder=FORBIDDEN, **options):
    """Whether the stages are computed again."""
    try:
        run(store, encoder, **({"batch_size": 4} | options))
    except AssertionError as error:
        return "encoded once more" in str(error)
    return False


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder that holds the features of five images."""
    directory = tmp_path_factory.mktemp("kept")
    run(directory)
    return directory


def test_features_are_the_stages_of_the_normalised_images_at_28_pixels_or_less(tmp_path):
    found = run(tmp_path, dataclasses.replace(ENCODER, normalize="imagenet"))
    images = normalised(jnp.stack(list(Noise())), "imagenet")
    stages = Stem().apply(VARIABLES, images)
    assert len(found) == found.total == 5
    assert {name: rows.shape for name, rows in found.stages.items()} == {
        "f1": (5, 28, 28, 4),  # of 32
        "f2": (5, 16, 16, 6),
    }
    small = resize_bilinear(stages["f1"], (28, 28), align_corners=True)
    np.testing.assert_allclose(arrays(found)["f1"], small, atol=1e-5)
    np.testing.assert_allclose(arrays(found)["f2"], stages["f2"], atol=1e-5)


def test_memory_file_and_streaming_give_the_same_rows(tmp_path, kept):
    expected = run(kept)
    for store in (MEMORY, Store(cache_dir=tmp_path, limit_bytes=0)):
        found = run(store)
        assert found.stages.keys() == expected.stages.keys()
        for index in (np.arange(5), np.array([4, 1, 2, 2]), np.arange(0)):
            rows, others = (f.rows(index, ("f2",)) for f in (found, expected))
            assert rows.keys() == {"f2"}
            np.testing.assert_array_equal(rows["f2"], others["f2"])
    assert files(tmp_path) == []


def test_bfloat16_is_float32_except_for_its_rounding(kept):
    wide, narrow = arrays(run(kept)), arrays(run(MEMORY, dtype="bfloat16"))
    for name, stage in narrow.items():
        assert stage.dtype == jnp.bfloat16
        error = np.abs(stage.astype(np.float32) - wide[name])
        assert error.max() > 0
        assert (error <= 2.0**-8 * wide[name]).all()


@pytest.mark.parametrize("index", [-1, 5])
def test_an_image_that_does_not_exist_has_no_rows(kept, index):
    with pytest.raises(IndexError, match="has 5 images"):
        run(kept).rows(np.array([0, index]), ("f1",))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_last_smaller_batch_is_encoded_like_the_others(kept, batch_size):
    for name, stage in arrays(run(MEMORY, batch_size=batch_size)).items():
        assert np.abs(stage).max(axis=(1, 2, 3)).all()
        np.testing.assert_allclose(arrays(run(kept))[name], stage, atol=1e-6)


def test_each_image_is_read_once_and_never_again(tmp_path):
    first = run(tmp_path, source=Noise(at=(seen := []).append))
    assert sorted(seen) == [0, 1, 2, 3, 4]
    again = run(tmp_path, FORBIDDEN, Noise(at=refuse), batch_size=3)
    jax.tree.map(np.testing.assert_array_equal, arrays(again), arrays(first))
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        *[{"padding": Padding("reflect")}, {"digest": "abd"}, {"normalize": "cifar10"}],
        *[{"pool_padding": "lowest"}, {"name": "resnet20"}, {"dtype": "bfloat16"}],
    ],
    ids=str,
)
def test_another_encoder_has_other_features(kept, change):
    assert encoded_again(kept, dataclasses.replace(FORBIDDEN, **change))


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"feature_size": (14, 14)}], ids=str)
def test_another_form_has_other_features(kept, options):
    assert encoded_again(kept, **options)


def test_another_precision_has_other_features_whatever_its_name(kept):
    with jax.default_matmul_precision("bfloat16"):
        assert not encoded_again(kept)
    with jax.default_matmul_precision("float32"):
        assert encoded_again(kept)


def test_another_recipe_has_other_features(kept, monkeypatch):
    monkeypatch.setattr(features, "RECIPE", features.RECIPE + 1)
    assert encoded_again(kept)


def test_weights_of_another_name_are_the_same(kept):
    assert not encoded_again(kept, dataclasses.replace(FORBIDDEN, weights="a.npz", seed=None))


class Flat(nn.Module):
    """Equal responses at every pixel, each channel its own number, in bfloat16."""

    def __call__(self, images):
        levels = jnp.linspace(0.1, 3, 64, dtype=jnp.bfloat16)
        return {"f1": jnp.broadcast_to(levels, (*images.shape[:3], 64))}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_responses_that_are_equal_in_bfloat16_stay_equal_at_28_pixels(dtype):
    flat = dataclasses.replace(ENCODER, network=Flat(), variables={}, dtype="bfloat16")
    store = Store(memory_bytes=1 << 30)
    stage = arrays(run(store, flat, dtype=dtype))["f1"].astype(np.float32)
    assert stage.shape == (5, 28, 28, 64)
    equal = np.broadcast_to(stage[:1, :1, :1], stage.shape)
    np.testing.assert_allclose(stage, equal, rtol=3e-7)


def test_other_bytes_under_the_same_name_or_another_size_have_other_features(tmp_path):
    photos, stored = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()

    def first_value(level, size=SIZE):
        Image.new("RGB", (SIZE, SIZE), (level, 9, 200)).save(photos / "a.png")
        found = run(stored, source=open_source(str(photos), size=size))
        return found.rows(np.arange(1), ("f2",))["f2"][0, 3, 3]

    black = first_value(0)
    assert np.abs(first_value(255) - black).max() > 0.01
    assert len(files(stored)) == 2
    np.testing.assert_array_equal(first_value(0), black)
    assert len(files(stored)) == 2


def test_an_image_that_cannot_be_read_again_is_named(tmp_path):
    def fail(index):
        if index == 3:
            raise ValueError("broken")

    streamed = run(Store(tmp_path, limit_bytes=0), source=Noise(at=fail))
    streamed.rows(np.array([0, 4]), ("f1",))
    with pytest.raises(ValueError, match="broken"):
        streamed.rows(np.array([1, 3]), ("f1",))


def test_features_that_are_not_finite_name_the_image(tmp_path):
    class Black(Noise):
        def __getitem__(self, index):
            return super().__getitem__(index) * np.float32(index != 3)

    class Logarithm(nn.Module):
        def __call__(self, images):
            return {"f1": jnp.log(images.max(axis=(1, 2), keepdims=True))}

    encoder = dataclasses.replace(ENCODER, network=Logarithm(), variables={})
    with pytest.raises(ValueError, match=r"stem under padding zeros .* image noise/3 of noise"):
        run(tmp_path, encoder, source=Black())
    assert files(tmp_path) == []


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
    batches = Watched({"f1": values, "f2": values}, 6).stream(indices, ("f2",))
    assert not read
    first = next(batches)
    assert first.keys() == {"f2"}
    np.testing.assert_array_equal(first["f2"], values[[5]])
    np.testing.assert_array_equal(next(batches)["f2"], values[[0]])
    with pytest.raises(ValueError, match="image 3 is broken"):
        next(batches)
    assert read in ([5, 0, 3], [5, 0, 3, 1])
    assert here not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_a_stream_that_is_closed_early_reads_nothing_more():
    threads = set()

    class Watched(Features):
        def rows(self, index, stages):
            threads.add(threading.current_thread())
            return super().rows(index, stages)

    endless = (np.array([i % 5]) for i in itertools.count())
    batches = Watched({"f1": np.arange(5)}, 5).stream(endless, ("f1",))
    next(batches)
    batches.close()
    assert len(threads) == 1
    assert not any(thread.is_alive() for thread in threads)
