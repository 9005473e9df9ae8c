"""Layer by layer: what one layer's padding adds, and what is lost without it."""

import dataclasses

import numpy as np
import pytest

from posjax.probes.controls import Task
from posjax.report.layers import by_figure, effects, figure, table
from posjax.results.records import Gallery, Probe, Result, Scores
from posjax.report.report import write_report
from posjax.runs.settings import Settings

PROBE = Probe("resnet20", "random", "zeros", "f1+f2", 1, 3, 0, "sgd")
# SPC of the first seed, on each of the images; the second seed's is .1 more everywhere.
SPC = {
    "zeros": 0.9,
    "reflect": 0.1,
    "reflect+a=zeros": 0.3,
    "reflect+b=zeros": 0.8,
    "zeros+a=reflect": 0.85,
    "zeros+b=reflect": 0.4,
}


def result(padding, spc, control=""):
    probe = dataclasses.replace(PROBE, padding=padding, control=control)
    values = spc + np.array([[0.0, 0.0, 0.02], [0.1, 0.1, 0.12]])
    pictures = np.zeros((1, 28, 28, 3), np.uint8), np.zeros((1, 1, 28, 28), np.uint8)
    return Result(
        probe,
        (Task("H"), Task("H")),
        (0, 1),
        28,
        np.ones((2, 2), np.float32),
        {"noise": Scores(values, values)},
        {"noise": Gallery(*pictures)},
    )


RESULTS = [result(padding, spc) for padding, spc in SPC.items()]


def test_effects_are_differences_between_zeros_and_the_other_mode():
    found = {(row.kind, row.layer): row.difference for row in effects(RESULTS)}
    expected = {
        ("alone", "a"): 0.2,
        ("alone", "b"): 0.7,
        ("without", "a"): 0.05,
        ("without", "b"): 0.5,
        ("all", None): 0.8,
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # The same images and seeds: nothing is left to vary.
        np.testing.assert_allclose(found[key], value, atol=1e-6)
    assert {(row.mode, row.other) for row in effects(RESULTS)} == {("zeros", "reflect")}


def test_without_zeros_the_mode_that_came_first_is_compared():
    paddings = {"reflect+a=circular": 0.3, "circular+a=reflect": 0.85, "reflect": 0.1}
    rows = effects([result(*pair) for pair in ({"circular": 0.9} | paddings).items()])
    assert {(row.mode, row.other) for row in rows} == {("reflect", "circular")}
    found = {(row.kind, row.layer): round(row.difference[0], 6) for row in rows}
    assert found == {
        ("without", "a"): -0.2,
        ("alone", "a"): -0.05,
        ("all", None): -0.8,
    }


def test_controls_and_switches_without_their_twin_have_no_effect():
    assert effects([result("reflect+a=zeros", 0.5), RESULTS[0]]) == []
    controls = [
        dataclasses.replace(r, probe=dataclasses.replace(r.probe, control="roll")) for r in RESULTS
    ]
    assert effects(controls) == []
    assert effects(RESULTS[:2]) == []


def test_table_and_figure_name_the_layers_from_the_image_onwards():
    rows = effects(RESULTS)
    text = table(rows)
    assert ".700 [.700, .700]" in text
    assert ">all<" in text
    ((_, several),) = by_figure(rows).items()
    drawn = figure(several)
    (panel,) = drawn.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b"]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]


@pytest.mark.parametrize("results", [RESULTS, RESULTS[2:3]], ids=["whole", "one layer alone"])
def test_the_report_shows_them_in_a_section_of_their_own(tmp_path, results):
    settings = Settings(
        encoder=("resnet20",),
        weights=("random",),
        paddings=("zeros",),
        images="noise",
        test_images=("noise",),
        workdir=tmp_path,
        epochs=1,
    )
    page = write_report(tmp_path, settings, results, title="Layers").read_text()
    assert ("Layer by layer" in page) == (len(results) > 1)
    assert len(list((tmp_path / "figures").glob("layers-*.png"))) == (len(results) > 1)
    assert list((tmp_path / "figures").glob("spc.png"))
