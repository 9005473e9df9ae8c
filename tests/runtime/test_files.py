"""Files are replaced whole or stay as they were, even where the writer is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from posjax.runtime import files, write_atomically

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
