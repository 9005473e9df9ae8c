"""Checkpoints: the newest whole state of a group of readouts, or the start."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.probes.trainer import State, optimizer
from posjax.runtime import checkpoints
from posjax.runtime.checkpoints import Checkpoints


def make_state(value, readouts=2):
    params = {"conv1": {"kernel": jnp.full((readouts, 3), value), "bias": jnp.zeros(readouts)}}
    variables = {"params": params, "batch_stats": {"norm1": {"mean": jnp.full(readouts, value)}}}
    state = State(variables, jax.vmap(optimizer().init)(params))
    return jax.device_get((state, np.full((4, readouts), value, np.float32)))


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), found, expected)


def test_nothing_saved_is_epoch_0_and_the_state_as_it_is(tmp_path):
    with Checkpoints(tmp_path / "group") as saved:
        epoch, state = saved.restore(make_state(1.0))
    assert epoch == 0
    assert_same(state, make_state(1.0))


def test_the_newest_state_is_restored_and_the_only_one_kept(tmp_path):
    with Checkpoints(tmp_path / "group") as saved:
        saved.save(1, make_state(0.1))
        saved.save(7, make_state(0.7))
    with Checkpoints(tmp_path / "group") as saved:
        epoch, state = saved.restore(make_state(0.0))
    assert epoch == 7
    assert_same(state, make_state(0.7))
    assert [path.name for path in (tmp_path / "group").iterdir()] == ["7"]


def test_a_save_is_whole_when_the_call_returns(tmp_path):
    with Checkpoints(tmp_path / "group") as saved:
        saved.save(2, make_state(0.2))
        with Checkpoints(tmp_path / "group") as other:
            epoch, state = other.restore(make_state(0.0))
    assert epoch == 2
    assert_same(state, make_state(0.2))


def test_a_save_that_was_killed_is_ignored(tmp_path):
    with Checkpoints(tmp_path / "group") as saved:
        saved.save(3, make_state(0.3))
    half = tmp_path / "group" / "4.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "default").write_bytes(b"half")
    with Checkpoints(tmp_path / "group") as saved:
        epoch, state = saved.restore(make_state(0.0))
        assert epoch == 3
        assert_same(state, make_state(0.3))
        saved.save(4, make_state(0.4))
    with Checkpoints(tmp_path / "group") as saved:
        assert saved.restore(make_state(0.0))[0] == 4


@pytest.mark.parametrize("readouts", [1, 3])
def test_a_checkpoint_of_other_readouts_is_refused_by_its_folder(tmp_path, readouts):
    with Checkpoints(tmp_path / "group") as saved:
        saved.save(5, make_state(0.5))
    with (
        Checkpoints(tmp_path / "group") as saved,
        pytest.raises(ValueError, match=r"group/5 cannot be read .*delete it"),
    ):
        saved.restore(make_state(0.0, readouts))


def test_a_damaged_checkpoint_is_refused_by_its_folder(tmp_path):
    with Checkpoints(tmp_path / "group") as saved:
        saved.save(5, make_state(0.5))
    for path in (tmp_path / "group" / "5").rglob("*"):
        if path.is_file() and path.stat().st_size > 64:
            path.write_bytes(path.read_bytes()[:40])
    with (
        Checkpoints(tmp_path / "group") as saved,
        pytest.raises(ValueError, match=r"group/5 cannot be read .*delete it"),
    ):
        saved.restore(make_state(0.0))


def test_a_save_is_due_when_the_last_one_is_a_minute_old(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    with Checkpoints(tmp_path / "group") as saved:
        now[0] += 59
        assert not saved.due()
        now[0] += 1
        assert saved.due()
        saved.save(1, make_state(0.1))
        assert not saved.due()


@pytest.mark.parametrize("name", [b"run[1]", b"a**?", b"caf\xc3\xa9", b"ph\xffotos"])
def test_the_folder_of_checkpoints_may_have_any_name(tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    with Checkpoints(folder) as saved:
        saved.save(1, make_state(0.1))
    with Checkpoints(folder) as saved:
        epoch, state = saved.restore(make_state(0.0))
    assert epoch == 1
    assert_same(state, make_state(0.1))
