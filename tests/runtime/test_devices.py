"""Devices: batches are sharded and come back, and steps are compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posjax import runtime

ONE, EIGHT = runtime.local_devices(1), runtime.local_devices(8)


@pytest.mark.parametrize("devices", [ONE, EIGHT], ids=["one", "eight"])
def test_a_step_on_what_it_returned_is_not_compiled_again(devices):
    step = runtime.pmap(lambda state, x: (state + 1, x), devices, donate_argnums=(0,))
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


@given(
    count=st.integers(1, 20),
    more=st.integers(0, 9),
    devices=st.integers(1, 8),
    inner=st.lists(st.integers(1, 3), max_size=2),
)
@settings(deadline=None, max_examples=25)
def test_a_sharded_batch_comes_back(count, more, devices, inner):
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


def test_replicas_are_on_every_device_and_come_back_once():
    tree = {"a": np.arange(3.0), "b": np.float32(2)}
    replicas = runtime.replicate(tree, runtime.local_devices(3))
    assert replicas["a"].shape == (3, 3)
    assert replicas["a"].sharding.device_set == set(runtime.local_devices(3))
    gathered = runtime.unreplicate(replicas)
    assert isinstance(gathered["a"], np.ndarray)
    jax.tree.map(np.testing.assert_array_equal, gathered, tree)


def test_the_first_local_devices_are_taken_and_no_more_than_exist():
    assert runtime.local_devices() == jax.local_devices()
    assert runtime.local_devices(3) == jax.local_devices()[:3]
    with pytest.raises(ValueError, match=r"devices must be 8 or less, .*; found 9"):
        runtime.local_devices(9)


def test_sums_are_taken_over_all_devices_and_outside_of_steps_exact_in_float64():
    values = np.float32(2**24) + np.arange(16, dtype=np.float32).reshape(8, 2)
    step = runtime.pmap(lambda x: (x, jax.lax.psum(x - 2**24, runtime.BATCH_AXIS)), EIGHT)
    same, sums = step(values)
    np.testing.assert_array_equal(sums, np.tile((values - 2**24).sum(axis=0), (8, 1)))
    total = runtime.sum_over_devices({"a": same})["a"]
    np.testing.assert_array_equal(total, values.sum(axis=0, dtype=np.float64))
    assert total.dtype == np.float64


def test_devices_are_described_for_people():
    assert runtime.describe_devices(EIGHT) == "8 × cpu"
