"""Hosts: two processes give what one gives, go on where it stopped, and write it once."""

import json
import shutil

import numpy as np
import pytest
from processes import Host, free_port, wait

from posjax.results import load_result
from posjax.runs import Settings, run

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
    "maps": ("H",),
    "seeds": (0, 1),
    "controls": ("floor",),  # whose targets differ from image to image
    "feature_dtype": "float32",
    "devices": 1,
}
EXPERIMENT = """
import importlib, json, sys
from experiments import program
from posjax.runs import image_sets, run
from posjax.runtime import multihost

measure = importlib.import_module("posjax.runs.measure")
multihost.HEARTBEAT_SECONDS = 600  # a machine under test may stand still for a while
encode, encoded = measure.encode, []

def noting(encoder, source, *args):
    keys = source.keys[multihost.host()::multihost.hosts()]
    encoded.extend((encoder.seed, key) for key in keys)
    return encode(encoder, source, *args)

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

measure.encode = noting
image_sets.open_source = lambda *args, **options: Noting(open_source(*args, **options))
program.main("padding_ablation", "Padding ablation", run=main)
"""


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
def alone(tmp_path_factory):
    """The workdir of one host, and its results."""
    workdir = tmp_path_factory.mktemp("alone")
    return workdir, run(Settings(workdir=workdir, **OPTIONS), title="Alone", say=lambda _: None)


@pytest.fixture(scope="module")
def resumed(alone, tmp_path_factory):
    """Two hosts that go on where one was killed behind the first result."""
    folder = tmp_path_factory.mktemp("hosts")
    later = shutil.ignore_patterns("*.csv", "*.html", "figures", "*seed1*")
    shutil.copytree(alone[0], folder / "host0", ignore=later)
    assert len(list((folder / "host0" / "probes").iterdir())) == 1
    hosts = start(folder)
    assert wait(hosts) == [0, 0], hosts[0].said + hosts[1].said
    return folder, hosts


def test_two_hosts_give_the_records_of_one(alone, resumed):
    paths = sorted((resumed[0] / "host0" / "probes").glob("*.npz"))
    for one, two in zip(alone[1], map(load_result, paths), strict=True):
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


def test_each_image_is_made_and_encoded_by_one_host_and_nothing_is_repeated(resumed):
    noted = [json.loads(host.said.splitlines()[-1]) for host in resumed[1]]
    keys = [f"dead_leaves/{i}" for i in range(11)] + [f"noise/{i}" for i in range(5)] + ["white"]
    assert sorted(noted[0]["made"] + noted[1]["made"]) == sorted(keys)
    # The result of seed 0 was there.
    first, second = (host["encoded"] for host in noted)
    assert sorted(first + second) == sorted([1, key] for key in keys)
    assert [1, "dead_leaves/3"] in second
    assert [1, "white"] in first


def test_results_are_written_and_told_once(resumed):
    folder, (first, second) = resumed
    workdir = folder / "host0"
    left = {path.name for path in workdir.iterdir()}
    files = {"config.json", "results.csv", "controls.csv", "report.html"}
    assert left == files | {"figures", "tensorboard", "probes"}
    assert len(list((workdir / "tensorboard").iterdir())) == 2
    assert not (folder / "host1" / "config.json").exists()
    assert "2 hosts with 1 × cpu each" in first.said
    assert "report: " in first.said
    assert not [line for line in second.said.splitlines()[:-1] if "Gloo" not in line]
