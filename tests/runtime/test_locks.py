"""Locks: one holder at a time, who waits says so and may give up."""

import errno
import fcntl
import subprocess
import sys

import pytest

from posjax.runtime import locked


def test_a_lock_has_one_holder_and_others_wait_until_they_give_up(tmp_path, capsys):
    path = tmp_path / "deep" / "a.lock"
    with locked(path, "another holds it"):
        assert capsys.readouterr().err == ""
        with (
            pytest.raises(InterruptedError, match=r"waiting for .*a\.lock"),
            locked(path, "another holds it", give_up=lambda: True),
        ):
            pytest.fail("two hold it")
        assert capsys.readouterr().err == "another holds it\n"
    with locked(path, "another holds it"):
        assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match="file cannot be locked"),
        locked(tmp_path / "file" / "a.lock", "another holds it"),
    ):
        pytest.fail("it is locked")


def test_a_file_that_a_killed_process_left_in_place_of_a_lock_is_taken_over(tmp_path, monkeypatch):
    path = tmp_path / "a.lock"
    code = f"import filelock, os; (lock := filelock.SoftFileLock({str(path)!r})).acquire()"
    code += "; os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert path.exists()

    def missing(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", missing)
    with locked(path, "another holds it", give_up=lambda: True):
        pass
    assert not path.exists()


def test_where_the_file_system_has_no_locks_a_file_stands_for_one_and_that_is_said(
    tmp_path, monkeypatch, capsys
):
    def missing(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", missing)
    said = f"the file system of {tmp_path} has no locks: the file a.lock stands for one"
    path = tmp_path / "a.lock"
    with locked(path, "another holds it"):
        assert said in capsys.readouterr().err
        with (
            pytest.raises(InterruptedError, match=r"waiting for .*a\.lock"),
            locked(path, "another holds it", give_up=lambda: True),
        ):
            pytest.fail("two hold it")
        assert "another holds it\n" in capsys.readouterr().err
    assert not path.exists()
