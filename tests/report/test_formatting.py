"""How numbers and probes are written."""

import dataclasses

import pytest
from synthetic import PROBE

from posjax.report.formatting import count, estimate, label, number, short, varying


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9312, ".931"), (-0.05, "−.050"), (1.0, "1.000"), (-1.0, "−1.000"), (-0.0001, ".000")],
)
def test_numbers_have_three_decimals_and_no_leading_zero(value, text):
    assert number(value) == text


def test_an_estimate_of_a_single_value_has_no_interval():
    assert estimate((0.5, 0.25, 0.75), 2, 2) == ".50 [.25, .75]"
    assert estimate((0.5, 0.5, 0.5), 1) == ".500"
    assert estimate(None, 8) == "undefined"


def test_long_names_keep_their_end_and_counts_their_plural():
    assert short("a" * 50 + "/photos") == "…" + "a" * 32 + "/photos"
    assert short("photos") == "photos"
    assert (count(1, "seed"), count(2000, "seed")) == ("1 seed", "2,000 seeds")


@pytest.mark.parametrize(
    ("changes", "fields", "labels"),
    [
        ({}, ("padding",), ["zeros", "zeros"]),
        ({"depth": 3}, ("padding", "depth"), ["zeros, depth 1", "zeros, depth 3"]),
        ({"control": "shuffled_map"}, ("padding", "control"), ["zeros", "zeros, shuffled map"]),
        # The stages of another encoder follow from it, and pixels need no other name.
        (
            {"encoder": "pixels", "padding": "none", "weights": "none", "stages": "f1"},
            ("padding", "encoder"),
            ["zeros, vgg16", "pixels"],
        ),
    ],
)
def test_a_label_says_what_tells_probes_apart(changes, fields, labels):
    probes = [PROBE, dataclasses.replace(PROBE, **changes)]
    assert varying(probes) == fields
    assert [label(probe, fields) for probe in probes] == labels
