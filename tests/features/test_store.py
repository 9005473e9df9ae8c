"""Files of features: killed, shared, full, deleted or limited, they never give a wrong feature."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import BYTES, Noise, arrays, files, refuse, run

from posjax.features import Store, disk_usage

# Encodes images one by one, and prints a line before it reads image `stop`.
CHILD = """
import os, time
from pathlib import Path
from toy import Noise, run
def at(index):
    if index == {stop}:
        print("reached", flush=True)
        {then}
run(Path({directory!r}), source=Noise(at=at), batch_size=1)
print("encoded", flush=True)
"""
HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "JAX_PLATFORMS": "cpu"}


def child(directory, *, stop, then):
    code = CHILD.format(directory=str(directory), stop=stop, then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "reached\n"
    return process


def same(features, expected):
    jax.tree.map(np.testing.assert_array_equal, arrays(features), arrays(expected))


def read_images(directory, **options):
    """The features, and the images that were read for them."""
    seen = []
    return run(directory, source=Noise(at=seen.append), batch_size=1, **options), sorted(seen)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The features of five images, and the name of their file."""
    directory = tmp_path_factory.mktemp("whole")
    features = run(directory, batch_size=1)
    return features, *files(directory)


@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_two_processes_at_once_encode_once(tmp_path, whole, capfd, end):
    then = "time.sleep(1.5)" if end == "finishes" else "time.sleep(1); os.kill(os.getpid(), 9)"
    process = child(tmp_path, stop=4, then=then)
    features, seen = read_images(tmp_path)
    process.stdout.close()
    assert process.wait() == (0 if end == "finishes" else -signal.SIGKILL)
    assert seen == ([] if end == "finishes" else [0, 1, 2, 3, 4])
    assert f"another run encodes the same images into {tmp_path}" in capfd.readouterr().err
    same(features, whole[0])
    assert files(tmp_path) == [whole[1]]
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, FileNotFoundError])
def test_an_interrupted_encoding_leaves_nothing_and_raises_what_stopped_it(tmp_path, error):
    def stop(index):
        if index == 3:
            raise error("photos/3.png")

    with pytest.raises(error, match=r"^photos/3\.png"):
        run(tmp_path, source=Noise(at=stop), batch_size=1)
    assert disk_usage(tmp_path) == 0


def test_too_little_room_is_an_error_before_anything_is_encoded(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    message = rf"no room .*{tmp_path}: {BYTES // 1000},\d\d\d bytes needed, 1,000 free"
    with pytest.raises(OSError, match=rf"{message}.*cache_dir=FOLDER .*cache_limit_gb=0"):
        run(tmp_path, source=Noise(at=refuse))
    assert files(tmp_path) == []


@pytest.fixture
def full_disk():
    """A disk on which no file of more than 20,000 bytes finds room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_is_full_midway_is_an_error_and_gets_its_room_back(tmp_path):
    with pytest.raises(OSError, match=r"no room .*cache_limit_gb=0.*File too large") as caught:
        run(tmp_path, batch_size=1)
    assert str(tmp_path) in str(caught.value)
    assert disk_usage(tmp_path) == 0


def test_a_file_that_is_deleted_while_it_is_written_is_missed(tmp_path, whole):
    directory = tmp_path / "cache"

    def delete(index):
        if index == 4:
            shutil.rmtree(directory)

    with pytest.raises(OSError, match=r"features in .*cache were deleted .*start again"):
        run(directory, source=Noise(at=delete), batch_size=1)
    same(run(directory, batch_size=1), whole[0])


def test_a_file_that_is_deleted_while_it_is_read_is_still_whole(tmp_path, whole):
    features = run(tmp_path / "cache", batch_size=1)
    shutil.rmtree(tmp_path / "cache")
    same(features, whole[0])


def test_a_file_that_is_cut_while_it_is_read_is_damaged(tmp_path):
    features = run(tmp_path)
    (name,) = files(tmp_path)
    os.truncate(tmp_path / name, 20_000)
    features.rows(np.array([0]), ("f1",))
    with pytest.raises(ValueError, match=rf"{name} are damaged \(it was cut.* delete that file"):
        features.rows(np.array([1]), ("f1",))


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    run(tmp_path)
    (name,) = files(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-9], "empty": b""}[damage])
    with pytest.raises(ValueError, match=rf"{name} are damaged .* delete that file"):
        run(tmp_path)


@pytest.mark.parametrize(("limit", "stored"), [(BYTES - 1, False), (BYTES + 1_000, True)])
def test_the_limit_bounds_the_room_on_disk(tmp_path, whole, capfd, limit, stored):
    same(run(Store(tmp_path, limit_bytes=limit), batch_size=1), whole[0])
    assert (disk_usage(tmp_path) > 0) == stored
    assert disk_usage(tmp_path) <= limit
    assert ("do not fit into" in capfd.readouterr().err) == (not stored)


def test_what_a_killed_process_left_does_not_count_against_the_limit(tmp_path, whole):
    (tmp_path / f".{whole[1]}.4711.tmp").write_bytes(b"x" * BYTES)
    run(Store(tmp_path, limit_bytes=BYTES + 1_000), batch_size=1)
    assert files(tmp_path) == [whole[1]]


def test_all_that_the_folder_holds_counts_against_the_limit(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"x" * 2_001)
    run(Store(tmp_path, limit_bytes=BYTES + 2_000))
    assert files(tmp_path) == ["other"]
    (tmp_path / "other" / "file").write_bytes(b"x" * 500)
    run(Store(tmp_path, limit_bytes=BYTES + 2_000))
    assert len(files(tmp_path)) == 2
    # What is there is used, whatever the limit.
    run(Store(tmp_path, limit_bytes=0), source=Noise(at=refuse))


def test_without_a_cache_stages_stay_in_memory_where_they_fit_else_in_the_scratch_folder(tmp_path):
    run(Store(scratch=tmp_path, memory_bytes=BYTES))
    assert files(tmp_path) == []
    run(Store(scratch=tmp_path, memory_bytes=BYTES - 1))
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_cache_folder_that_cannot_be_made_is_refused_by_name(tmp_path, kind):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if kind == "file" else tmp_path / "file" / "below"
    with pytest.raises(OSError, match=rf"cache_dir={folder} cannot take features"):
        Store(folder).check()


def test_memory_does_not_grow_with_the_images_in_a_file(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from toy import Noise, run
for batches in (16, 64):
    features = run(Path(sys.argv[1]), source=Noise(count=32 * batches), batch_size=32)
    order = np.random.default_rng(0).permutation(len(features)).reshape(-1, 32)
    total = sum(float(rows["f1"].sum()) for rows in features.stream(order, ("f1", "f2")))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert disk_usage(tmp_path) > 37_000_000
    assert many - few < 15_000_000
