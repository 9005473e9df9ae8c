"""The cache on disk: killed, shared, full, deleted or limited, it never gives a wrong feature."""

import dataclasses
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import ENCODER, ONE, Noise, arrays, entries, run

from posjax.images import open_source
from posjax.features import store as cache
from posjax.runs import Recipe, Settings, probe
from posjax.features.features import bytes_per_image
from posjax.runs.plan import _passes, _room, _streamed

# Encodes five images one by one, and says before each which one it is about to read.
CHILD = """
import os, time
from pathlib import Path
from toy import Noise, run
from posjax.features import store as cache
cache.SECONDS_BETWEEN = 0.0
seen = []
def at(index):
    seen.append(index)
    if index == {stop} and len(seen) > 1:
        print("reached", flush=True)
        {then}
run(Path({directory!r}), source=Noise(at=at, count={count}), batch_size=1)
print("encoded", flush=True)
"""
HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "JAX_PLATFORMS": "cpu"}
ROOM = 5 * bytes_per_image({"f1": (32, 32, 4), "f2": (16, 16, 6)}, (28, 28), "float32")


@pytest.fixture
def every_batch(monkeypatch):
    """What is written is made safe after each batch."""
    monkeypatch.setattr(cache, "SECONDS_BETWEEN", 0.0)


def child(directory, *, stop, then, count=5):
    code = CHILD.format(directory=str(directory), stop=stop, then=then, count=count)
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "reached\n"
    return process


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, arrays(found), arrays(expected))


def seen_by(directory, **options):
    seen = []
    found = run(directory, source=Noise(at=seen.append), **options)
    return found, seen[1:]  # the first image is read once more, for its size


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The features of five images, and their address."""
    directory = tmp_path_factory.mktemp("whole")
    found = run(directory, batch_size=1)
    (name,) = entries(directory)
    return found, name


def test_a_killed_process_is_continued_where_it_was(tmp_path):
    # Batches are read ahead: it is killed while it writes, and some rows are safe.
    process = child(tmp_path, stop=39, then="time.sleep(60)", count=40)
    deadline = time.monotonic() + 30
    while not (about := list(tmp_path.glob(".*.partial/about.json"))) or '"done": 0' in (
        about[0].read_text()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert all(entry.startswith(".") for entry in entries(tmp_path))
    # As if it had been killed a moment later, while it wrote what it had done.
    (next(tmp_path.glob(".*.partial")) / ".about.json.1.tmp").write_text('{"done"')
    seen = []
    found = run(tmp_path, source=Noise(at=seen.append, count=40), batch_size=1)
    assert 0 < len(set(seen[1:])) < 40
    assert sorted(seen[1:]) == list(range(40 - len(seen[1:]), 40))
    same(found, run(tmp_path / "alone", source=Noise(count=40), batch_size=1))
    shutil.rmtree(tmp_path / "alone")
    (left,) = entries(tmp_path)
    assert sorted(path.name for path in (tmp_path / left).iterdir()) == [
        "about.json", "f1.npy", "f2.npy"
    ]  # fmt: skip


def interrupt(directory, error=KeyboardInterrupt, at=3):
    """Stops at an image of five; batches of one that come before it are safe but for the last."""

    def stop(index):
        if index == at:
            raise error("stop")

    with pytest.raises(error):
        run(directory, source=Noise(at=stop), batch_size=1)


@pytest.mark.usefixtures("every_batch")
def test_an_interrupted_encoding_is_continued(tmp_path, whole):
    interrupt(tmp_path)
    found, seen = seen_by(tmp_path, batch_size=2)
    assert sorted(seen) == [2, 3, 4]
    for stage, alone in zip(arrays(found).values(), arrays(whole[0]).values(), strict=True):
        np.testing.assert_array_equal(stage[:2], alone[:2])
        # Batches of another size are another program, whose sums may round otherwise.
        np.testing.assert_allclose(stage[2:], alone[2:], atol=1e-6)
    assert entries(tmp_path) == [whole[1]]


@pytest.mark.usefixtures("every_batch")
@pytest.mark.parametrize(
    "damage", ["f1.npy lost", "f2.npy cut", "about.json lost", "about.json cut"]
)
def test_what_is_not_as_it_was_left_is_begun_again(tmp_path, whole, damage):
    interrupt(tmp_path)
    (left,) = entries(tmp_path)
    file = tmp_path / left / damage.split()[0]
    file.unlink() if damage.endswith("lost") else os.truncate(file, 130)
    found, seen = seen_by(tmp_path, batch_size=1)
    assert sorted(seen) == [0, 1, 2, 3, 4]
    same(found, whole[0])
    assert entries(tmp_path) == [whole[1]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_where_no_row_is_safe_nothing_is_left(tmp_path, error):
    interrupt(tmp_path, error)
    assert entries(tmp_path) == []


@pytest.mark.usefixtures("every_batch")
def test_two_processes_at_once_encode_once(tmp_path, whole, capfd):
    process = child(tmp_path, stop=4, then="time.sleep(1.5)")
    found, seen = seen_by(tmp_path, batch_size=1)
    assert process.stdout.read() == "encoded\n"
    assert process.wait() == 0
    process.stdout.close()
    assert seen == []
    assert f"another run encodes the same images into {tmp_path}" in capfd.readouterr().err
    same(found, whole[0])
    assert entries(tmp_path) == [whole[1]]


@pytest.mark.usefixtures("every_batch")
def test_the_second_process_goes_on_where_the_first_is_killed(tmp_path, whole, capfd):
    process = child(tmp_path, stop=4, then="time.sleep(1); os.kill(os.getpid(), 9)")
    found, seen = seen_by(tmp_path, batch_size=1)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert 4 in seen
    assert "waiting" in capfd.readouterr().err
    same(found, whole[0])
    assert entries(tmp_path) == [whole[1]]


@pytest.fixture
def full_disk():
    """A disk on which no file of more than 20,000 bytes finds room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


NO_ROOM = (
    rf"no room .*: {ROOM // 1000},\d\d\d bytes needed, [\d,]+ free.*--cache_dir.*--cache_limit_gb"
)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told_before_anything_is_encoded_and_gets_its_room_back(tmp_path):
    with pytest.raises(OSError, match=NO_ROOM) as caught:
        seen_by(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert entries(tmp_path) == []


@pytest.mark.usefixtures("every_batch")
def test_a_disk_that_is_full_midway_keeps_what_is_safe_and_no_more(tmp_path, whole, monkeypatch):
    rows, write = [], os.pwrite

    def fail(descriptor, data, offset):
        rows.append(offset)
        if len(rows) > 8:  # two headers and three images of two stages
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fail)
        patched.setattr(os, "posix_fallocate", refuse_to_reserve)
        with pytest.raises(OSError, match=r"no room .*No space left.*--cache_dir"):
            run(tmp_path, batch_size=1)
    (left,) = entries(tmp_path)
    assert cache.room_taken(tmp_path / left) < 0.7 * ROOM
    found, seen = seen_by(tmp_path, batch_size=1)
    assert sorted(seen) == [3, 4]
    same(found, whole[0])


def refuse_to_reserve(descriptor, offset, size):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.usefixtures("every_batch")
@pytest.mark.parametrize("deleted", ["the cache", "the folder", "a file"])
def test_deleted_while_it_is_written_it_is_missed(tmp_path, deleted, whole):
    directory = tmp_path / "cache"

    def delete(index):
        # Read ahead of, or once the folder is there: the first reading is for the size.
        if index == 4:
            (partial,) = directory.glob(".*.partial")
            if deleted == "a file":
                (partial / "f2.npy").unlink()
            else:
                shutil.rmtree(directory if deleted == "the cache" else partial)

    with pytest.raises(OSError, match=r"features in .*cache were deleted .*start the run again"):
        run(directory, source=Noise(at=delete), batch_size=1)
    same(run(directory, batch_size=1), whole[0])
    assert entries(directory) == [whole[1]]


def test_deleted_while_it_is_read_it_is_still_whole(tmp_path, whole):
    found = run(tmp_path / "cache", batch_size=1)
    shutil.rmtree(tmp_path / "cache")
    same(found, whole[0])


def test_cut_while_it_is_read_it_is_damaged(tmp_path):
    found = run(tmp_path)
    (name,) = entries(tmp_path)
    os.truncate(tmp_path / name / "f1.npy", 20_000)
    found.rows(np.array([0]), ("f1",))
    with pytest.raises(ValueError, match=rf"{name} are damaged \(f1.npy was cut.* delete"):
        found.rows(np.array([1]), ("f1",))


@pytest.mark.parametrize(("limit", "stored"), [(ROOM - 1, False), (ROOM + 1_000, True)])
def test_the_limit_is_the_room_on_disk(tmp_path, whole, capfd, limit, stored):
    found = run(tmp_path, batch_size=1, limit_bytes=limit)
    same_rows(found, whole[0])
    assert (cache.room_taken(tmp_path) > 0) == stored
    assert cache.room_taken(tmp_path) <= limit
    assert ("--cache_limit_gb" in capfd.readouterr().err) == (not stored)
    assert entries(tmp_path) == ([whole[1]] if stored else [])


def same_rows(found, expected):
    assert found.stages.keys() == expected.stages.keys()
    assert len(found) == len(expected) == 5
    for index in (np.arange(5), np.array([4, 1, 2]), np.array([3]), np.arange(0)):
        rows, rows_expected = (f.rows(index, ("f1", "f2")) for f in (found, expected))
        jax.tree.map(np.testing.assert_array_equal, rows, rows_expected)
        assert found.rows(index, ("f2",)).keys() == {"f2"}


def test_all_that_the_folder_holds_counts(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"x" * 2_000)
    run(tmp_path, limit_bytes=ROOM + 2_000)
    assert entries(tmp_path) == ["other"]
    (tmp_path / "other" / "file").write_bytes(b"x" * 500)
    run(tmp_path, limit_bytes=ROOM + 2_000)
    assert len(entries(tmp_path)) == 2
    run(tmp_path, source=Noise(at=forbid), limit_bytes=0)  # what is there is used


def forbid(index):
    raise AssertionError("read once more")


@pytest.mark.usefixtures("every_batch")
def test_what_a_killed_run_left_does_not_count_twice(tmp_path):
    interrupt(tmp_path)
    _, seen = seen_by(tmp_path, batch_size=1, limit_bytes=ROOM + 1_000)
    assert sorted(seen) == [2, 3, 4]


def test_streamed_images_that_cannot_be_read_are_named(tmp_path):
    def fail(index):
        if index == 3:
            raise ValueError("broken")

    found = run(tmp_path, source=Noise(at=fail), limit_bytes=0)
    found.rows(np.array([0, 4]), ("f1",))
    with pytest.raises(ValueError, match="broken"):
        found.rows(np.array([1, 3]), ("f1",))


def test_a_probe_gives_the_same_with_little_room(tmp_path):
    images = open_source("dead_leaves", size=32, limit=7)
    tests = {"noise": open_source("noise", size=32, limit=3)}
    recipe = Recipe(
        maps=("H",), seeds=(0, 1), epochs=2, batch_size=4, stages=("f2",), feature_dtype="float32"
    )
    encoder = dataclasses.replace(ENCODER, seed=None)

    def records(name, limit=None):
        options = {"cache_dir": tmp_path / name, "cache_limit_gb": limit, "devices": ONE}
        return probe(encoder, images, tests, recipe, **options), len(entries(tmp_path / name))

    expected, _ = records("all")
    room = cache.room_taken(tmp_path / "all") / 1e9
    assert records("none", 0.0) == (expected, 0)
    assert records("one", 0.4 * room) == (expected, 1)
    assert records("both", room) == (expected, 2)


@pytest.mark.parametrize(
    ("limit", "held", "said"),
    [
        (None, 0, "5 MB in {cache}"),
        (0.005, 0, "5 MB in {cache}, of which --cache_limit_gb allows 5 MB"),
        (0.004, 0, "allows 4 MB: 1 of 4 image sets, less those that are there already, do not"),
        (0.005, 2_000_000, "allows 5 MB with the 2 MB that are there: 2 of 4 image sets"),
        (0.0, 0, "allows 0 MB: 4 of 4 image sets"),
    ],
)
def test_the_plan_says_how_many_image_sets_are_streamed(tmp_path, limit, held, said):
    stored = tmp_path / "cache"
    stored.mkdir()
    (stored / "file").write_bytes(b"x" * held)
    settings = Settings(
        encoder=("resnet20",),
        weights=("random",),
        paddings=("zeros", "valid"),
        images="noise",
        test_images=("noise",),
        workdir=tmp_path,
        cache_dir=stored,
        cache_limit_gb=limit,
    )
    sets = [[2_000_000, 1_000_000], [1_500_000, 500_000]]
    line = _room(settings, sets, _streamed(settings, sets))
    assert said.format(cache=stored) in line
    assert ("streamed" in line) == ("image sets" in said)


def test_without_a_cache_the_plan_counts_one_encoder_at_a_time(tmp_path):
    options = {"encoder": ("resnet20",), "weights": ("random",), "images": "noise"}
    options |= {"paddings": ("zeros", "valid"), "test_images": ("noise",), "workdir": tmp_path}
    sets = [[2_000_000, 1_000_000], [1_500_000, 500_000]]
    settings = Settings(**options, cache_limit_gb=0.0025)
    line = _room(settings, sets, _streamed(settings, sets))
    assert line.startswith("3 MB at a time, deleted at the end, of which")
    assert "1 of 4 image sets" in line


def test_the_plan_counts_the_passes_of_streamed_images(tmp_path):
    settings = Settings(
        encoder=("resnet20",),
        weights=("random",),
        images="noise",
        test_images=("noise",),
        paddings=("zeros",),
        workdir=tmp_path,
        depths=(1, 2),
        epochs=3,
    )
    # Of two readout shapes, three epochs of 10 images each, and 4 test images once.
    assert _passes(settings, [10, 4], [[True, True]], [2]) == "68 images, 14 if all were stored"
    some = _passes(settings, [10, 4], [[False, True], [False, False]], [2, 2])
    assert some.startswith("32 images, 28")
    assert _passes(settings, [10, 4], [[False, False]], [2]) == "14 images"


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_cache_that_cannot_be_is_told_with_its_flag(tmp_path, kind):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if kind == "file" else tmp_path / "file" / "below"
    with pytest.raises(OSError, match=rf"{folder} cannot take features .*--cache_dir"):
        run(folder)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """What a process takes more for 64 batches than for 16 is far below what the features are."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from toy import Noise, run
found = run(Path(sys.argv[1]), source=Noise(count=32 * int(sys.argv[2])), batch_size=32)
order = np.random.default_rng(0).permutation(len(found)).reshape(-1, 32)
total = sum(float(rows["f1"].sum()) for rows in found.stream(order, ("f1", "f2")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / batches), batches],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for batches in ("16", "64")
    ]
    few, many = (int(process.communicate()[0]) for process in processes)
    assert cache.room_taken(tmp_path / "64") > 30_000_000
    assert many - few < 15_000_000
