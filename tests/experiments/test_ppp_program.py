"""PPP as a program: patterns and readouts of the same encoders, in one report."""

import json

from programs import rows, start


def test_it_leaves_patterns_and_says_where_readouts_disagree(tmp_path):
    flags = ["--encoder=vgg8_bn_quarter", "--paddings=zeros,circular"]
    flags += ["--maps=H", "--image_size=36", "--dtype=bfloat16", "--precision=high"]
    done = start("ppp", tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert "margin of 80" in done.stdout
    assert "images made: 6, 0.7 MB kept in memory" in done.stdout
    assert "Strength (vgg8_bn_quarter)\nstage  zeros" in done.stdout
    patterns = rows(tmp_path / "ppp.csv")
    assert [(row["padding"], row["seed"], row["stage"]) for row in patterns] == [
        (mode, "0", f"f{stage}") for mode in ("zeros", "circular") for stage in range(1, 6)
    ]
    for row in patterns:
        assert float(row["magnitude_low"]) <= float(row["magnitude"]) > 0
    assert len(rows(tmp_path / "posenet" / "results.csv")) == 2
    for folder in (tmp_path, tmp_path / "posenet"):
        flags = json.loads((folder / "config.json").read_text())["flags"]
        assert (flags["dtype"], flags["precision"]) == ("bfloat16", "high")
    report = (tmp_path / "report.html").read_text()
    for text in (
        "are ordered differently",
        "data:image/png",
        "random weights (other ones for each seed), in bfloat16",
        "zeros, circular",
        "6 of noise, 36 pixels a side",
        "36 × 36 pixels, 80 from the image&#39;s border",
        "pixels in [0, 1], as they are",
        "3 of dead_leaves",
    ):
        assert text in report


def test_pixels_have_no_padding_to_measure(tmp_path):
    done = start("ppp", tmp_path / "run", "--encoder=pixels")
    assert done.returncode != 0
    assert "--encoder: PPP needs an encoder that pads" in done.stderr
    assert not (tmp_path / "run").exists()
