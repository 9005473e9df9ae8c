"""Workdirs: one run each, found again, never mixed with another."""

import json
import struct
import subprocess
from importlib.metadata import version

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from posjax.fitting import Readouts
from posjax.probes import Readout
from posjax.probes.controls import Task
from posjax.probes.scores import Scores
from posjax.results import ProbeSpec, Result
from posjax.runs import Settings, workdir
from posjax.runs.workdir import Workdir, git_revision

ABOUT = {
    "weight_digests": {"a.npz": "12ab"},
    "image_digests": {"images": "34cd", "noise": "56ef"},
    "devices": "1 × cpu",
}


def make_settings(path, **changes):
    options = {
        "encoder": ("resnet20",),
        "weights": ("a.npz",),
        "paddings": ("zeros", "valid"),
        "images": "photos",
        "test_images": ("noise",),
        "workdir": path,
    }
    return Settings(**options | changes)


def claim(path, about=ABOUT, **changes):
    Workdir(path).claim(make_settings(path, **changes).identity(), about)


def test_config_json_says_what_was_run_with_what(tmp_path):
    path = tmp_path / "new" / "run"
    claim(path, ABOUT | {"cache_dir": "cache"}, learning_rate=0.3)
    config = json.loads((path / "config.json").read_text())
    flags = config["flags"]
    assert (flags["encoder"], flags["paddings"]) == (["resnet20"], ["zeros", "valid"])
    assert (flags["learning_rate"], flags["epochs"], flags["num_train"]) == (0.3, 15, None)
    assert not {"workdir", "cache_dir", "devices"} & flags.keys()
    assert (config["workdir"], config["cache_dir"]) == (str(path), "cache")
    assert config["versions"]["jax"] == version("jax")
    assert config["versions"]["posjax"] == version("posjax")
    assert config["git_revision"] == git_revision()
    assert {key: config[key] for key in ABOUT} == ABOUT


def test_the_same_run_may_claim_it_again_wherever_it_computes(tmp_path):
    claim(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    claim(tmp_path)
    claim(tmp_path, ABOUT | {"devices": "8 × gpu", "cache_dir": "elsewhere"}, devices=2)
    # What it says of versions and devices is true of the results that are there.
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 3}, ["epochs was 15 and is 3"]),
        ({"dtype": "bfloat16"}, ["dtype was 'float32' and is 'bfloat16'"]),
        ({"paddings": ("zeros",)}, [r"paddings was \['zeros', 'valid'\] and is \['zeros'\]"]),
        ({"num_test": 3}, ["num_test was None and is 3"]),
        ({"num_test": 3, "default_num_test": 7}, ["num_test was None and is 3"]),
        ({"default_num_test": 7}, [r"num_test was \d+ and is 7"]),
        (
            {"seeds": (5,), "weights": ("b.npz",)},
            [
                r"seeds was \[0, 1, 2\] and is \[5\]",
                r"weights was \['a.npz'\] and is \['b.npz'\]",
            ],
        ),
    ],
    ids=str,
)
def test_other_settings_are_refused_each_with_both_values(tmp_path, changes, said):
    claim(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ValueError, match=rf"workdir={tmp_path} belongs to a run") as error:
        claim(tmp_path, **changes)
    for text in said:
        error.match(text)
    assert str(error.value).count(" was ") == len(said)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("what", ["weight", "image"])
def test_other_content_under_the_same_name_is_refused(tmp_path, what):
    claim(tmp_path)
    digests = ABOUT[f"{what}_digests"]
    changed = {**digests, next(iter(digests)): "ffff"}
    with pytest.raises(
        ValueError, match=rf"the {what}s were .*{next(iter(digests.values()))}.*ffff"
    ):
        claim(tmp_path, ABOUT | {f"{what}_digests": changed})


def test_the_precision_in_force_is_recorded_and_stays_that_of_the_run(tmp_path):
    with jax.default_matmul_precision("float32"):
        claim(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["flags"]["precision"] == "highest"
    assert config["flags"]["dtype"] == "float32"
    with jax.default_matmul_precision("highest"):
        claim(tmp_path)
    with pytest.raises(ValueError, match=r"precision was 'highest' and is 'default'"):
        claim(tmp_path)


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=rf"workdir={tmp_path} holds files"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_is_refused_by_its_flag(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match=rf"workdir={path} cannot be used: "):
            claim(path)


def test_an_empty_folder_or_one_of_a_run_killed_at_once_is_taken(tmp_path):
    (tmp_path / ".config.json.4711.tmp").write_text('{"fla')
    claim(tmp_path)
    claim(tmp_path)


@pytest.mark.parametrize("content", ["", '{"flags": {', "{}", "[]", '{"flags": {}}'])
def test_a_damaged_configuration_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is no configuration of a run"):
        claim(tmp_path)


def test_results_are_kept_by_group(tmp_path):
    claim(tmp_path)
    folder = Workdir(tmp_path)
    assert folder.result("zeros-f1+f2") is None
    result = Result(
        ProbeSpec("resnet20", "random", "zeros", "f1", 1, 3, 0, "sgd"),
        (Task("H"),),
        (0,),
        32,
        np.ones((2, 1), np.float32),
        {"noise": Scores(np.ones((1, 3)), np.zeros((1, 3)))},
        {},
    )
    with pytest.raises(KeyError, match="noise"):
        folder.keep("zeros-f1+f2", result)  # without a gallery for its test images
    (tmp_path / "probes" / "valid.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(ValueError, match=r"valid\.npz"):
        folder.result("valid")


def read_events(path):
    """TensorBoard's records: length, its checksum, an event, its checksum."""
    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_losses_are_tensorboard_events(tmp_path):
    tasks = (Task("H"), Task("G", "roll"))
    readouts = Readouts(Readout(), ("f1",), tasks, (0, 3))
    with Workdir(tmp_path).log("zeros-depth1", readouts) as log:
        log(0, np.array([0.5, 0.25], np.float32))
        log(1, np.array([0.125, 2.0], np.float32))
    (path,) = (tmp_path / "tensorboard" / "zeros-depth1").iterdir()
    assert "tfevents" in path.name
    scalars = [(v.tag, e.step, v.simple_value) for e in read_events(path) for v in e.summary.value]
    assert scalars == [
        *[("loss/H/seed0", 0, 0.5), ("loss/G-roll/seed3", 0, 0.25)],
        *[("loss/H/seed0", 1, 0.125), ("loss/G-roll/seed3", 1, 2.0)],
    ]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder in which posjax seems to lie, and git there, with no settings of the user's."""
    monkeypatch.setattr(workdir, "__file__", str(tmp_path / "workdir.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    user = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")

    def git(*args):
        return subprocess.check_output(["git", *user, *args], cwd=tmp_path, text=True).strip()

    return git


def test_the_revision_is_the_commit_and_whether_it_was_changed(checkout, tmp_path):
    assert git_revision() is None
    checkout("init", "-q")
    (tmp_path / "a").write_text("a")
    checkout("add", "a")
    checkout("commit", "-q", "-m", "a")
    checkout("tag", "-m", "v1", "v1")
    revision = checkout("rev-parse", "HEAD")
    assert len(revision) == 40
    assert git_revision() == revision
    (tmp_path / "a").write_text("b")
    assert git_revision() == revision + "+changes"


def test_without_git_there_is_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None


def test_what_64_bits_change_is_recorded_and_stays_that_of_the_run(tmp_path):
    claim(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["flags"]["x64"] is False
    jax.config.update("jax_enable_x64", True)
    try:
        with pytest.raises(ValueError, match="x64 was False and is True"):
            claim(tmp_path)
    finally:
        jax.config.update("jax_enable_x64", False)
