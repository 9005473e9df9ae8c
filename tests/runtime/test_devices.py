"""Parallel: eight devices give what one gives, whatever they divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import tasks

from posjax.probes import Readout
from posjax.fitting import sgd as grid
from posjax import runtime
from posjax.fitting import scoring
from posjax.features.features import Features, encode
from posjax.encoders.frozen import Encoder

READOUT = Readout(feature_size=(8, 8), map_size=(16, 16))
MAPS, SEEDS = ("H", "G"), (0, 1)
STAGES = ("f1", "f2")
ONE, EIGHT = runtime.local_devices(1), runtime.local_devices(8)


def make_features(n):
    draw = np.random.default_rng(n).normal
    return Features(
        {
            "f1": draw(size=(n, 8, 8, 2)).astype(np.float32),
            "f2": draw(size=(n, 4, 4, 3)).astype(np.float32),
        }
    )


def train_and_score(devices, batch_size, count=13):
    variables, losses = grid.train(
        READOUT,
        make_features(count),
        STAGES,
        tasks(*MAPS),
        SEEDS,
        epochs=2,
        batch_size=batch_size,
        devices=devices,
    )
    return variables, losses, score(variables, devices, batch_size)


def score(variables, devices, batch_size):
    features = make_features(13)
    scores = scoring.score(
        READOUT, variables, features, STAGES, tasks(*MAPS), batch_size=batch_size, devices=devices
    )
    return scores.spc, scores.mae


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize("devices", [ONE, EIGHT], ids=["one", "eight"])
def test_a_step_on_what_it_returned_is_not_compiled_again(devices):
    step = runtime.pmap(lambda state, x: (state + x, x), devices, donate_argnums=(0,))
    state, ones = runtime.replicate(np.float32(1), devices), np.ones(len(devices), np.float32)
    state, _ = step(state, ones)
    compiled = []

    def listen(event, *_, **__):
        compiled.extend([event] if event.endswith("backend_compile_duration") else [])

    # It stays: the oldest JAX takes no listener off again.
    jax.monitoring.register_event_duration_secs_listener(listen)
    state, _ = step(state, ones)
    assert not compiled
    step(state, np.ones(len(devices), np.int32))  # the listener hears what is compiled
    assert compiled


@pytest.fixture(scope="module")
def of_one():
    return {batch_size: train_and_score(ONE, batch_size) for batch_size in (12, 13)}


# Of 13 images; both leave devices without an image, 12 all but one of them in the last batch.
@pytest.mark.parametrize("batch_size", [12, 13])
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_several_devices_train_and_score_as_one(devices, batch_size, of_one):
    found = train_and_score(runtime.local_devices(devices), batch_size)
    assert_close(found, of_one[batch_size])


def test_the_last_smaller_batch_of_the_test_images_counts_exactly():
    variables, _, whole = train_and_score(ONE, 13)
    for devices, batch_size in ((ONE, 5), (EIGHT, 5)):
        scores = score(variables, devices, batch_size)
        assert scores[0].shape == scores[1].shape == (2, 13)
        assert_close(scores, whole)


class Stem(nn.Module):
    """An encoder of two convolutions, for speed."""

    @nn.compact
    def __call__(self, images):
        f1 = nn.relu(nn.Conv(4, (3, 3))(images))
        return {"f1": f1, "f2": nn.relu(nn.Conv(6, (3, 3), (2, 2))(f1))}


class Noise:
    """Seven images."""

    name, keys, skipped = "noise", tuple("abcdefg"), ()

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        return np.random.default_rng(range(7)[index]).random((32, 32, 3), np.float32)

    def digest(self):
        return "noise"


def test_eight_devices_encode_as_one(tmp_path):
    variables = Stem().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    encoder = Encoder("stem", "random", "zeros", None, Stem(), variables, "d", "imagenet", 0)
    one, eight = (
        encode(
            encoder,
            Noise(),
            tmp_path / str(len(devices)),
            dtype="float32",
            batch_size=4,
            devices=devices,
        )
        for devices in (ONE, EIGHT)
    )
    assert one.stages["f1"].shape == (7, 28, 28, 4)
    assert_close(eight.stages, one.stages)


@given(
    count=st.integers(1, 20),
    more=st.integers(0, 9),
    devices=st.integers(1, 8),
    inner=st.lists(st.integers(1, 3), max_size=2),
)
@settings(deadline=None)
def test_what_is_dealt_out_comes_back(count, more, devices, inner):
    rows = np.arange(count * int(np.prod(inner)), dtype=np.float32).reshape(count, *inner)
    batch = {"a": rows + 1, "b": rows.astype(np.int16) + 1}
    devices = runtime.local_devices(devices)
    shards, mask = runtime.shard_batch(batch, count + more, devices)
    per_device = -(-(count + more) // len(devices))
    for name, shard in shards.items():
        assert shard.shape == (len(devices), per_device, *inner)
        assert shard.dtype == batch[name].dtype
        assert (shard[mask == 0] == 0).all()
        np.testing.assert_array_equal(shard[mask == 1], batch[name])
    assert mask.shape == (len(devices), per_device)
    assert mask.sum() == count
    joined = runtime.unshard(jax.tree.map(jnp.asarray, shards), count)
    jax.tree.map(np.testing.assert_array_equal, joined, batch)


def test_rows_may_stand_behind_other_axes():
    batch = np.arange(10, dtype=np.float32).reshape(5, 2)
    shards, _ = runtime.shard_batch(batch, 6, runtime.local_devices(3))
    on_devices = jnp.swapaxes(shards, 1, 2)
    np.testing.assert_array_equal(runtime.unshard(on_devices, 5, axis=1), batch.T)


def test_collectives_run_over_all_devices():
    total = runtime.pmap(lambda x: jax.lax.psum(x, runtime.BATCH_AXIS), EIGHT)
    np.testing.assert_array_equal(total(np.arange(8.0)), np.full(8, 28.0))


def test_replicas_are_on_every_device_and_one_is_gathered():
    tree = {"a": np.arange(3.0), "b": np.float32(2)}
    replicas = runtime.replicate(tree, runtime.local_devices(3))
    assert replicas["a"].shape == (3, 3)
    assert replicas["a"].sharding.device_set == set(runtime.local_devices(3))
    gathered = runtime.unreplicate(replicas)
    assert isinstance(gathered["a"], np.ndarray)
    jax.tree.map(np.testing.assert_array_equal, gathered, tree)


def test_the_first_devices_are_taken_and_no_more_than_there_are():
    assert runtime.local_devices() == jax.local_devices()
    assert runtime.local_devices(3) == jax.local_devices()[:3]
    with pytest.raises(ValueError, match=r"--devices asks for 9, found 8 of platform cpu"):
        runtime.local_devices(9)
