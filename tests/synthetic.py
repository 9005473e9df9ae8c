"""Results of readouts that were never fitted: their scores and predictions are drawn at random."""

import dataclasses

import numpy as np

from posjax.probes.controls import Task
from posjax.probes.scores import PenaltyPath, Scores
from posjax.results import Gallery, ProbeSpec, Result, Summary

PHOTOS = '/data/<photos> & "more"'
PROBE = ProbeSpec("vgg16", "imagenet", "zeros", "f1+f2+f3+f4+f5", 1, 3, 0, "sgd")
SIZE = 28


def make_result(
    padding="zeros", maps=("H",), seeds=(0, 1), sets=None, controls=("",), steps=6, **probe
):
    """One readout for each control, map and seed; `sets` counts the images by their name.

    SPC is undefined on the last image of the last readout, and everywhere under `circular`.
    """
    probe = dataclasses.replace(PROBE, padding=padding, **probe)
    rng = np.random.default_rng([*padding.encode(), probe.depth])
    pairs = [(Task(name, c), seed) for c in controls for name in maps for seed in seeds]
    scores, galleries = {}, {}
    for name, n in (sets or {PHOTOS: 4}).items():
        spc = rng.uniform(-0.5, 1, (len(pairs), n))
        spc[-1, -1] = np.nan
        if padding == "circular":
            spc[:] = np.nan
        rings = rng.uniform(0, 0.4, (2, len(pairs), n, 14))
        errors = rng.uniform(0, 0.4, (len(pairs), 28, 28))
        scores[name] = Scores(spc, rng.uniform(0, 0.4, spc.shape), *rings, errors)
        images = rng.integers(0, 256, (min(4, n), SIZE, SIZE, 3), np.uint8)
        predictions = rng.integers(0, 256, (len(maps), min(4, n), SIZE, SIZE), np.uint8)
        galleries[name] = Gallery(images, predictions)
    losses = rng.uniform(0.01, 0.1, (steps, len(pairs)))
    tasks, seeds = zip(*pairs, strict=True)
    return Result(probe, tasks, seeds, SIZE, losses, scores, galleries)


def make_ridge_result(padding="zeros", maps=("H", "V"), seeds=(None,), **probe):
    """The first readout takes the largest penalty of three, the others the second."""
    result = make_result(padding, maps, seeds, steps=1, solver="ridge", **probe)
    r = len(result.tasks)
    held_out = np.linspace(0.02, 0.03, 3)[:, None] * np.ones(r)
    path = PenaltyPath(np.array([1.0, 0.1, 0.01]), held_out, np.array([1.0, *[0.1] * (r - 1)]))
    return dataclasses.replace(result, path=path)


def with_scores(result, spc, mae):
    """The result with other scores on its only set of test images."""
    scores = {name: Scores(spc, mae) for name in result.scores}
    return dataclasses.replace(result, scores=scores)


def layer_result(padding, spc, **probe):
    """Two seeds on three images, whose SPC varies around `spc` as under every other padding."""
    result = make_result(padding, sets={"noise": 3}, **probe)
    values = spc + np.array([[0.0, 0.0, 0.02], [0.1, 0.1, 0.12]])
    return with_scores(result, values, values)


LAYER_SPC = {
    "zeros": 0.9,
    "reflect": 0.1,
    "reflect+a=zeros": 0.3,
    "reflect+b=zeros": 0.8,
    "zeros+a=reflect": 0.85,
    "zeros+b=reflect": 0.4,
}


def summary(padding="zeros", name="H", test_images="noise", spc=0.5, **probe):
    return Summary(
        probe=ProbeSpec(**vars(PROBE) | {"padding": padding, **probe}),
        map=name,
        test_images=test_images,
        n_seeds=3,
        n_images=8,
        spc=None if spc is None else (spc, spc - 0.1, spc + 0.1),
        spc_undefined=24 if spc is None else 0,
        mae=(0.1, 0.08, 0.12),
        mae_constant=0.25,
    )
