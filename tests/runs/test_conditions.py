"""Arms: which encoders a run probes, and which of them are controls."""

import dataclasses
from pathlib import Path

import pytest

from posjax.probes.controls import Task
from posjax.runs import Settings
from posjax.runs.conditions import Arm, arms, recipe_of, tasks

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


def test_without_controls_there_is_an_arm_for_every_encoder_padding_and_drawn_seed():
    trained = [Arm("resnet20", "w.npz", mode, None) for mode in ("zeros", "reflect")]
    assert arms(SETTINGS) == trained
    drawn = arms(changed(weights=("random",), encoder=("vgg11", "resnet20")))
    assert [(arm.encoder, arm.padding, arm.seed) for arm in drawn] == [
        (encoder, padding, seed)
        for encoder in ("vgg11", "resnet20")
        for padding in ("zeros", "reflect")
        for seed in (0, 4)
    ]


def test_several_weights_are_each_probed_under_every_padding():
    found = arms(changed(weights=("a.npz", "random"), encoder=("pixels", "resnet20")))
    assert [(arm.weights, arm.padding, arm.seed) for arm in found] == [
        ("none", "none", None),
        *(("a.npz", padding, None) for padding in ("zeros", "reflect")),
        *(("random", padding, seed) for padding in ("zeros", "reflect") for seed in (0, 4)),
    ]
    with pytest.raises(ValueError, match="--weights"):
        changed(weights=("a.npz", "a.npz"))


def test_pixels_are_one_arm_whatever_the_paddings():
    assert arms(changed(encoder=("pixels",))) == [Arm("pixels", "none", "none", None)]
    both = changed(encoder=("pixels", "resnet20"), controls=("pixels",))
    assert [arm.encoder for arm in arms(both)] == ["pixels", "resnet20", "resnet20"]
    assert recipe_of(both, "pixels", ("f1",)).stages == ("all",)
    assert recipe_of(both, "resnet20", ("f1", "f2")).stages == ("f1", "all")


def test_each_is_every_stage_of_the_encoder():
    settings = changed(stages=("each", "all"))
    assert recipe_of(settings, "resnet20", ("f1", "f2")).stages == ("f1", "f2", "all")


def test_controls_follow_the_results():
    found = arms(changed(controls=("pixels", "random", "roll", "selectivity", "floor")))
    assert [arm.control for arm in found] == ["", "", "pixels", *["random"] * 4, *["roll"] * 2]
    assert [arm.seed for arm in found if arm.control == "random"] == [0, 4, 0, 4]
    assert [arm.weights for arm in found if arm.control == "roll"] == ["w.npz", "w.npz"]


def test_control_maps_are_drawn_from_the_results_encoders_alone():
    settings = changed(controls=("selectivity", "floor", "roll"))
    assert tasks(settings, "roll") == [Task("H"), Task("G")]
    assert tasks(settings, "")[:2] == [Task("H"), Task("G")]
    assert [task.control for task in tasks(settings, "")[2::2]] == [
        "shuffled_map",
        "smooth_map",
        "image_shuffled_maps",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"controls": ("rolled",)}, r"--controls: 'rolled'.*pixels, random, selectivity"),
        ({"controls": ("random",), "weights": ("random",)}, r"--controls=random.*--weights=random"),
        ({"controls": ("floor",), "solver": "ridge"}, r"--controls=floor needs --solver=sgd"),
    ],
)
def test_controls_that_mean_nothing_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        changed(**changes)
