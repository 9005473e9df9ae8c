"""The report of PPP: a table for each score, a picture, and what readouts say beside it."""

import re

import numpy as np
import pytest
from synthetic import layer_result

from posjax.ppp.pattern import Pattern
from posjax.ppp.report import text_tables, write_report


def make_pattern(strength):
    score = strength + np.array([0, *np.linspace(-0.01, 0.01, 5)])
    return Pattern(np.full((4, 4), strength), score, score, np.full(6, np.nan))


@pytest.fixture
def patterns():
    strengths = {"zeros": 0.5, "reflect": 0.3}
    return {
        ("vgg16", mode, None): {"f1": make_pattern(value), "f2": make_pattern(value / 2)}
        for mode, value in strengths.items()
    }


def write(folder, patterns, results):
    path = write_report(folder, {"crops": "<64>"}, patterns, results, title="PPP")
    return path.read_text("utf-8")


def test_strengths_stand_in_a_table_of_stages_and_paddings(patterns):
    lines = text_tables(patterns).splitlines()
    assert lines[2] == "Strength (vgg16)"
    assert lines[3].split() == ["stage", "zeros", "reflect"]
    assert re.findall(r"(?<!\[)\.\d+ ", lines[4]) == [".500 ", ".300 "]
    assert lines[5].startswith("f2")


def test_an_undefined_score_is_written_and_the_picture_is_kept(tmp_path, patterns):
    text = write(tmp_path, patterns, [])
    for caption in ("Magnitude (vgg16)", "Strength (vgg16)", "SNR (vgg16)"):
        assert f"<caption>{caption}</caption>" in text
    assert text.count("<td>undefined</td>") == 4
    assert "&lt;64&gt;" in text
    assert [path.name for path in tmp_path.glob("figures/*.png")] == ["patterns-vgg16.png"]
    assert "beside readouts" not in text


@pytest.mark.parametrize(("zeros", "reflect", "differently"), [(0.9, 0.1, 0), (0.1, 0.9, 1)])
def test_readouts_that_order_paddings_differently_are_counted(
    tmp_path, patterns, zeros, reflect, differently
):
    results = [layer_result("zeros", zeros), layer_result("reflect", reflect)]
    text = write(tmp_path, patterns, results)
    assert "Of 1 comparisons" in text
    assert f"excludes 0, {differently} are ordered differently" in text
    assert ("zeros less reflect" in text) is bool(differently)
