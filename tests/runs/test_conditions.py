"""Conditions: which encoders a run probes, and which of them are controls."""

import dataclasses
from pathlib import Path

import pytest

from posjax.encoders import Padding
from posjax.probes.controls import Task
from posjax.runs import Settings
from posjax.runs.conditions import Condition, conditions, load_encoder, tasks

SETTINGS = Settings(
    encoder=("resnet20",),
    weights=("w.npz",),
    paddings=("zeros", "reflect"),
    images="noise",
    test_images=("noise",),
    workdir=Path("nowhere"),
    maps=("H", "G"),
    seeds=(0, 4),
    stages=("f1", "all"),
)


def changed(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def test_without_controls_there_is_a_condition_for_every_encoder_padding_and_random_seed():
    trained = [Condition("resnet20", "w.npz", Padding(m), None) for m in ("zeros", "reflect")]
    assert conditions(SETTINGS) == trained
    random = conditions(changed(weights=("random",), encoder=("vgg11", "resnet20")))
    assert [
        (condition.encoder, str(condition.padding), condition.seed) for condition in random
    ] == [
        (encoder, padding, seed)
        for encoder in ("vgg11", "resnet20")
        for padding in ("zeros", "reflect")
        for seed in (0, 4)
    ]


def test_several_weights_are_each_probed_under_every_padding():
    found = conditions(changed(weights=("a.npz", "random"), encoder=("pixels", "resnet20")))
    assert [(condition.weights, str(condition.padding), condition.seed) for condition in found] == [
        ("none", "None", None),
        *(("a.npz", padding, None) for padding in ("zeros", "reflect")),
        *(("random", padding, seed) for padding in ("zeros", "reflect") for seed in (0, 4)),
    ]
    with pytest.raises(ValueError, match="weights"):
        changed(weights=("a.npz", "a.npz"))


def test_pixels_are_one_condition_whatever_the_paddings():
    pixels = Condition("pixels", "none", None, None)
    assert conditions(changed(encoder=("pixels",))) == [pixels]
    both = changed(encoder=("pixels", "resnet20"), controls=("pixels",))
    assert [condition.encoder for condition in conditions(both)] == ["pixels", *["resnet20"] * 2]


def test_modes_are_integers_where_several_paddings_share_a_program():
    several = changed(weights=("random",), paddings=("zeros", "reflect", "valid"))
    encoders = [load_encoder(several, condition) for condition in conditions(several)]
    modes = {str(encoder.padding): encoder.modes for encoder in encoders}
    assert set(modes["zeros"]) == {0}
    assert set(modes["reflect"]) == {1}
    assert modes["valid"] is None
    alone = changed(weights=("random",), paddings=("reflect",))
    assert load_encoder(alone, conditions(alone)[0]).modes is None


def test_controls_follow_the_results():
    found = conditions(changed(controls=("pixels", "random", "roll", "selectivity", "floor")))
    assert [c.control for c in found] == ["", "", "pixels", *["random"] * 4, *["roll"] * 2]
    assert [c.seed for c in found if c.control == "random"] == [0, 4, 0, 4]
    assert [c.weights for c in found if c.control == "roll"] == ["w.npz"] * 2


def test_control_maps_are_drawn_from_the_results_encoders_alone():
    settings = changed(controls=("selectivity", "floor", "roll"))
    assert tasks(settings, "roll") == (Task("H"), Task("G"))
    assert tasks(settings, "")[:2] == (Task("H"), Task("G"))
    assert [task.control for task in tasks(settings, "")[2::2]] == [
        "shuffled_map",
        "smooth_map",
        "image_shuffled_maps",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controls": ("rolled",)}, r"controls: 'rolled'.*pixels, random, selectivity"),
        ({"controls": ("random",), "weights": ("random",)}, r"controls=random.*weights=random"),
        ({"controls": ("floor",), "solver": "ridge"}, r"controls=floor needs solver=sgd"),
    ],
)
def test_controls_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        changed(**changes)
