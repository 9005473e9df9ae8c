"""Files are replaced whole or stay as they were, even where the writer is killed."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from posjax.runtime import files, write_atomically, write_rows, write_text

# Without the package, whose import takes seconds.
WRITER = """
import runpy, sys
from pathlib import Path
write = runpy.run_path(sys.argv[1])["write_atomically"]
path, size = Path(sys.argv[2]), 1 << 20
for i in range(10**9):
    write(path, bytes([i % 256]) * size)
    if i == 0:
        print("first", flush=True)
"""


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "results.csv"
    write_atomically(path, b"old")
    write_atomically(path, b"new")

    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no room"):
        write_atomically(path, b"newer, and longer")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path = tmp_path / "results.csv"
    command = [sys.executable, "-c", WRITER, files.__file__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"first\n"
        for _ in range(20):
            time.sleep(0.013)
            seen = path.read_bytes()
            assert seen == seen[:1] * (1 << 20)
        process.send_signal(signal.SIGKILL)
    left = path.read_bytes()
    assert left == left[:1] * (1 << 20)


def test_a_text_with_any_file_name_is_written_as_utf8(tmp_path):
    name = os.fsdecode(b"caf\xc3\xa9 \xff.png")
    write_text(tmp_path / "page.html", f"{name} ×")
    write_rows(tmp_path / "table.csv", ["image"], [[name]])
    assert (tmp_path / "page.html").read_bytes() == "café \\udcff.png ×".encode()
    assert (tmp_path / "table.csv").read_bytes() == "image\ncafé \\udcff.png\n".encode()


def test_a_file_system_that_renames_to_no_taken_name_gets_the_new_file(tmp_path, monkeypatch):
    rename = os.replace

    def refuse(source, target):
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, "File exists", source)
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    for content in (b"old", b"new"):
        write_atomically(tmp_path / "results.csv", content)
    assert (tmp_path / "results.csv").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]
