"""Padding-aware channels as a program: a table of channels, and readouts without them."""

import numpy as np
from programs import rows, start


def test_it_lists_channels_and_says_what_silencing_costs(tmp_path):
    flags = ["--encoder=vgg8_bn_quarter", "--paddings=zeros", "--maps=H", "--image_size=36"]
    done = start("padding_aware", tmp_path, *flags, "--seeds=0,1")
    assert done.returncode == 0, done.stderr
    effects = rows(tmp_path / "padding_aware.csv")
    layers = [row["layer"].rpartition("/")[2] for row in effects]
    assert list(dict.fromkeys(layers)) == ["features_0", "features_4", "features_8"]
    aware = [row for row in effects if row["aware"] == "True"]
    assert 0 < len(aware) < len(effects)
    for row in aware:
        assert float(row["low"]) <= float(row["effect"]) <= float(row["high"])
    assert [row["seed"] for row in rows(tmp_path / "results.csv")] == ["0", "1"]
    controls = rows(tmp_path / "controls.csv")
    assert {(row["control"], row["seed"]) for row in controls} == {
        (control, seed) for control in ("aware_silenced", "random_silenced") for seed in "01"
    }
    assert np.isfinite([float(row["mae"]) for row in controls]).all()
    report = (tmp_path / "report.html").read_text()
    for text in (
        "Layer by layer",
        "data:image/png",
        "SPC less that of the encoder as it is",
        "SPC less that of the encoder with random ones silenced",
        "transposed or in loops: VGG/VGG.stages/features_12",
        "6 of noise, 36 pixels a side",
    ):
        assert text in report
    written = (tmp_path / "controls.csv").read_bytes()
    again = start("padding_aware", tmp_path, *flags, "--seeds=0,1")
    assert again.returncode == 0
    assert (tmp_path / "controls.csv").read_bytes() == written


def test_without_padding_it_says_so(tmp_path):
    done = start("padding_aware", tmp_path, "--encoder=pixels", "--maps=H")
    assert done.returncode == 0, done.stderr
    assert "pixels, none weights, none: no layer pads. There is no channel" in done.stdout
    assert rows(tmp_path / "padding_aware.csv") == []
    assert len(rows(tmp_path / "results.csv")) == 1
    assert not (tmp_path / "controls.csv").exists()


def test_what_it_cannot_do_is_refused_before_it_begins(tmp_path):
    for flags, message in (
        (["--controls=pixels"], "--controls: as many other channels"),
        (["--paddings=zeros@cropped"], "--paddings: expected one mode"),
        (["--num_train=4"], "--num_train: an interval needs 5 images or more, not 4"),
        (
            ["--coordinator_address=a:1", "--num_processes=2", "--process_id=0"],
            "--coordinator_address: padding-aware channels are looked for on one host",
        ),
    ):
        done = start("padding_aware", tmp_path / "run", "--encoder=vgg8_bn_quarter", *flags)
        assert done.returncode != 0
        assert message in done.stderr
    assert not (tmp_path / "run").exists()
