"""Runs side by side: one report of several workdirs, and what cannot be compared is refused."""

import pytest
from programs import rows, run, start

SMALL = ["--encoder=vgg8_bn_quarter", "--maps=H"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, flags in {
        "a": ["--paddings=zeros"],
        "b": ["--paddings=reflect"],
        "c": ["--paddings=zeros", "--num_train=5"],
        "d": ["--paddings=circular", "--learning_rate=0.01"],
    }.items():
        assert start("padding_ablation", folder / name, *SMALL, *flags).returncode == 0
    return folder


def report(*names):
    """`experiments.report` names its runs without flags."""
    workdir, *folders = names
    return run("report", workdir, *map(str, folders))


def test_paddings_of_two_runs_stand_in_one_table_with_their_differences(runs, tmp_path):
    done = report(tmp_path / "both", runs / "a", runs / "b")
    assert done.returncode == 0, done.stderr
    assert [row["padding"] for row in rows(tmp_path / "both" / "results.csv")] == [
        "zeros",
        "reflect",
    ]
    assert "SPC less that of zeros" in (tmp_path / "both" / "report.html").read_text("utf-8")
    error = report(tmp_path / "both", runs / "a").stderr
    assert "is there already: name a new folder" in error


def test_other_training_images_keep_scores_apart(runs, tmp_path):
    done = report(tmp_path / "both", runs / "a", runs / "c")
    names = [row["test_images"] for row in rows(tmp_path / "both" / "results.csv")]
    assert done.returncode == 0, done.stderr
    assert names == ["dead_leaves", f"dead_leaves ({runs / 'c'})"]


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    error = report(tmp_path / "x", runs / "a", runs / "d").stderr
    assert "cannot be compared: learning_rate was 0.1 and 0.01" in error
    error = report(tmp_path / "x", runs / "a", runs / "a").stderr
    assert "two of the runs hold readouts of H on vgg8_bn_quarter under zeros" in error
    error = report(tmp_path / "x", runs / "a", tmp_path).stderr
    assert f"{tmp_path} is no workdir of a run" in error
    assert "give the workdirs of runs" in report(tmp_path / "x").stderr
    assert not (tmp_path / "x").exists()
