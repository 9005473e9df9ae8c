"""Hosts: two processes give what one gives, write it once, and stop together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from posjax import runtime
from posjax.runs import Settings, run
from posjax.fitting.sgd import _order, _room
from posjax.results.files import load_result

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "encoder": ("vgg8_bn_quarter",),
    "weights": ("random",),
    "paddings": ("zeros",),
    "images": "dead_leaves",
    "test_images": ("noise", "white"),  # of which the second host has none
    "image_size": 32,
    "num_train": 11,
    "num_test": 5,
    "batch_size": 4,
    "epochs": 2,
    "maps": ("H", "G"),
    "seeds": (0, 1),
    "controls": ("floor",),  # whose targets differ from image to image
    "feature_dtype": "float32",
    "devices": 1,
}
EXPERIMENT = """
import importlib, json, sys
from experiments import program
from posjax.runtime import checkpoints
from posjax import runtime
from posjax.runs import image_sets, run

probe = importlib.import_module("posjax.runs.probe")
checkpoints.SECONDS_BETWEEN = 0
runtime.HEARTBEAT_SECONDS = 600  # a machine under test may stand still for a while
encode, encoded = probe.encode, []

def noting(encoder, source, *args, **options):
    encoded.extend((encoder.seed, key) for key in source.keys)
    return encode(encoder, source, *args, **options)

open_source, made = image_sets.open_source, []

class Noting:
    def __init__(self, source):
        self.source, self.digest = source, source.digest
        self.name, self.keys, self.skipped = source.name, source.keys, source.skipped

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        made.append(self.keys[index])
        return self.source[index]

def main(settings, *, title):
    run(settings, title=title)
    print(json.dumps({"encoded": encoded, "made": made}), file=sys.stderr)

probe.encode = noting
image_sets.open_source = lambda *args, **options: Noting(open_source(*args, **options))
program.main("padding_ablation", "Padding ablation", run=main)
"""
TALK = """
import sys
import numpy as np
from posjax import runtime

with runtime.distributed(f"localhost:{sys.argv[1]}", 2, host := int(sys.argv[2])):
    assert (runtime.hosts(), runtime.host(), runtime.is_first()) == (2, host, host == 0)
    assert runtime.all_gather_object("ab"[host]) == ["a", "b"]
    assert runtime.broadcast_object(lambda: {"a": "x" * 3000}[["a", "b"][host]]) == "x" * 3000
    values = np.arange(10).reshape(2, 5)
    own = runtime.local_rows(np.arange(5))
    np.testing.assert_array_equal(values[:, runtime.local_indices(5)][:, own], values[:, host::2])
    np.testing.assert_array_equal(runtime.gather_rows(values[:, host::2], axis=1), values)
    for differ in ({"--seeds": host, "--maps": "H"}, {"weights": "0"} if host else {}):
        try:
            runtime.check_same(differ)
        except ValueError as error:
            print(error, flush=True)
    if host:
        raise ValueError("3.png is damaged")
    runtime.all_gather_object(None)
"""


class Host:
    """One of two processes, and what it has said so far."""

    def __init__(self, program, *args, log):
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *args],
                cwd=ROOT,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                stdout=file,
                stderr=file,
            )

    def stop(self):
        self.process.kill()
        return self.process.wait()

    @property
    def said(self):
        return self.log.read_text()


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def wait(hosts, seconds=300):
    """The exit status of each, which fails where one takes longer."""
    try:
        return [host.process.wait(seconds) for host in hosts]
    finally:
        for host in hosts:
            host.stop()


def start(folder):
    """Two hosts with a disk each, so that only the first one finds the workdir that it left."""
    flags = [
        f"--{name}={value}"
        for name, values in OPTIONS.items()
        for value in (
            values
            if name == "test_images"
            else [",".join(map(str, values)) if isinstance(values, tuple) else values]
        )
    ]
    flags += [f"--coordinator_address=localhost:{free_port()}", "--num_processes=2"]
    folder.mkdir(exist_ok=True)
    return [
        Host(
            EXPERIMENT,
            *flags,
            f"--workdir={folder / f'host{i}'}",
            f"--process_id={i}",
            log=folder / f"log{i}",
        )
        for i in range(2)
    ]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    hosts = start(folder)
    assert wait(hosts) == [0, 0], hosts[0].said + hosts[1].said
    return folder, hosts


def results(workdir):
    return [load_result(path) for path in sorted((workdir / "probes").glob("*.npz"))]


def test_two_hosts_give_the_records_of_one(together, tmp_path):
    alone = run(Settings(workdir=tmp_path, **OPTIONS), title="Alone", say=lambda _: None)
    found = results(together[0] / "host0")
    assert len(found) == len(alone) == 2
    for one, two in zip(alone, found, strict=True):
        assert (one.probe, one.tasks, one.seeds) == (two.probe, two.tasks, two.seeds)
        np.testing.assert_allclose(two.losses, one.losses, atol=1e-5)
        assert one.scores.keys() == two.scores.keys()
        for name, scores in one.scores.items():
            # What a floor's readout draws is nearly constant, so that rounding turns more ranks.
            atol = np.where([task.control for task in one.tasks], 1e-4, 1e-5)[:, None]
            assert np.all(np.abs(two.scores[name].spc - scores.spc) <= atol)
            np.testing.assert_allclose(two.scores[name].mae, scores.mae, atol=1e-5)
            gallery, other = one.galleries[name], two.galleries[name]
            np.testing.assert_array_equal(other.images, gallery.images)
            np.testing.assert_allclose(
                other.predictions.astype(int), gallery.predictions.astype(int), atol=1
            )


def test_each_image_is_made_and_encoded_by_one_host(together):
    noted = [json.loads(host.said.splitlines()[-1]) for host in together[1]]
    keys = [f"dead_leaves/{i}" for i in range(11)] + [f"noise/{i}" for i in range(5)] + ["white"]
    assert sorted(noted[0]["made"] + noted[1]["made"]) == sorted(keys)
    first, second = (host["encoded"] for host in noted)
    assert sorted(first + second) == sorted([seed, key] for seed in (0, 1) for key in keys)
    assert [0, "dead_leaves/3"] in second
    assert [0, "white"] in first


def test_results_are_written_and_told_once(together):
    folder, (first, second) = together
    workdir = folder / "host0"
    left = {path.name for path in workdir.iterdir()}
    files = {"config.json", "results.csv", "controls.csv", "report.html"}
    assert left == files | {"figures", "tensorboard", "checkpoints", "probes"}
    assert len(list((workdir / "tensorboard").rglob("events*"))) == 2
    assert not (folder / "host1").exists()
    assert "2 hosts with 1 × cpu each" in first.said
    assert "report: " in first.said
    assert not [line for line in second.said.splitlines()[:-1] if "Gloo" not in line]


def test_a_killed_host_stops_the_other_and_both_go_on_when_started_again(together, tmp_path):
    workdir, deadline = tmp_path / "host0", time.monotonic() + 200
    first, second = start(tmp_path)
    while not list(workdir.glob("checkpoints/*/1")) and time.monotonic() < deadline:
        if first.process.poll() is not None:
            break
        time.sleep(0.005)
    assert second.stop() == -signal.SIGKILL
    assert wait([first], 90) != [0]
    assert "another host has stopped" in first.said or "another task died" in first.said
    assert not (workdir / "results.csv").exists()

    again = start(tmp_path)
    assert wait(again) == [0, 0], again[0].said + again[1].said
    csv = (workdir / "results.csv").read_bytes()
    assert csv == (together[0] / "host0" / "results.csv").read_bytes()


def test_hosts_talk_find_out_what_differs_and_stop_with_the_one_that_fails(tmp_path):
    port = str(free_port())
    hosts = [Host(TALK, port, str(i), log=tmp_path / f"log{i}") for i in range(2)]
    assert wait(hosts, 90) == [1, 1], hosts[0].said + hosts[1].said
    first, second = (host.said for host in hosts)
    for said in (first, second):
        assert "the hosts do not run the same: --seeds: 0 on host 0, 1 on host 1\n" in said
        assert "weights: None on host 0, '0' on host 1" in said
    assert "ValueError: 3.png is damaged" in second
    assert "ConnectionError: host 0 of 2 cannot go on, as when another host has stopped" in first


@pytest.mark.parametrize(("count", "batch_size", "hosts"), [(11, 4, 2), (3, 4, 5), (64, 8, 3)])
def test_every_row_of_every_batch_has_one_host_that_has_room_for_it(
    count, batch_size, hosts, monkeypatch
):
    monkeypatch.setattr(parallel, "hosts", lambda: hosts)
    room = _room(count, batch_size, 4)
    counts = []
    for epoch in range(4):
        for rows in _order(count, batch_size, epoch):
            owned = []
            for host in range(hosts):
                monkeypatch.setattr(parallel, "host", lambda host=host: host)
                share = runtime.local_indices(count)
                own = [share[i] for i in runtime.local_rows(rows)]
                counts.append(len(own))
                owned += own
            assert sorted(owned) == list(rows)
    assert max(counts) == room < batch_size or hosts == 1


def test_one_host_has_room_for_whole_batches_and_talks_to_itself():
    assert _room(5, 8, 2) == 8
    assert runtime.local_indices(5) == range(5)
    np.testing.assert_array_equal(runtime.local_rows(np.array([4, 2])), [4, 2])
    assert runtime.all_gather_object("a") == ["a"]
    assert runtime.broadcast_object(lambda: "a") == "a"
    runtime.check_same({"a": 1})
    assert runtime.global_devices(runtime.local_devices(3)) == tuple(runtime.local_devices(3))
