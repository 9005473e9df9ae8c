"""Checkpoints: the newest whole state of a training, or the start."""

import jax
import numpy as np
import optax
import pytest

from posjax.runtime import Checkpoints, checkpoints


def make_state(value, readouts=2):
    params = {"conv1": {"kernel": np.full((readouts, 3), value), "bias": np.zeros(readouts)}}
    momentum = optax.sgd(0.1, momentum=0.9).init(params)
    return jax.device_get((params, momentum, {"loss": np.full(4, value, np.float32)}))


def assert_same(state, expected):
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), state, expected)


def test_nothing_saved_is_step_0_and_the_template(tmp_path):
    template = make_state(1.0)
    assert Checkpoints(tmp_path / "none").restore(template) == (0, template)


def test_the_newest_whole_save_is_restored_and_the_only_one_kept(tmp_path):
    Checkpoints(tmp_path / "a").save(9, make_state(0.9))
    assert_same(Checkpoints(tmp_path / "a").restore(make_state(0.0))[1], make_state(0.9))
    (tmp_path / "a" / ".11.99.tmp").write_bytes(b"of a process that was killed")
    Checkpoints(tmp_path / "a").save(10, make_state(1.0))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["10"]
    (tmp_path / "a" / "9").write_bytes(b"left by a process that was killed")
    (tmp_path / "a" / ".11.99.tmp").write_bytes(b"half")
    step, state = Checkpoints(tmp_path / "a").restore(make_state(0.0))
    assert step == 10
    assert_same(state, make_state(1.0))
    state[2]["loss"][0] = 2.0  # it can be written to


@pytest.mark.parametrize("change", ["more readouts", "fewer layers", "cut"])
def test_a_damaged_one_and_one_of_another_training_are_refused_by_name(tmp_path, change):
    Checkpoints(tmp_path / "a").save(5, make_state(0.5))
    template = make_state(0.5, readouts=3 if change == "more readouts" else 2)
    if change == "fewer layers":
        del template[0]["conv1"]["bias"]
    if change == "cut":
        path = tmp_path / "a" / "5"
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a/5 cannot be read .*delete it"):
        Checkpoints(tmp_path / "a").restore(template)


def test_a_save_is_due_when_the_last_one_is_a_minute_old(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    saved = Checkpoints(tmp_path)
    now[0] += 59
    assert not saved.due()
    now[0] += 1
    assert saved.due()
    saved.save(1, make_state(0.1))
    assert not saved.due()
