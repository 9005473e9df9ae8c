"""Profiles: scores ring by ring, and the error in every cell, over seeds and images."""

import dataclasses

import numpy as np
from synthetic import PHOTOS, PROBE, make_result

from posjax.probes.scores import Scores
from posjax.results import profiles


def test_a_profile_is_a_mean_over_seeds_and_images_with_its_interval():
    result = make_result(controls=("", "shuffled_map"))
    scores = result.scores[PHOTOS]
    scores.ring_spc[:, :, 0] = np.nan
    (profile,) = profiles([result])
    assert (profile.probe, profile.map, profile.test_images) == (PROBE, "H", PHOTOS)
    np.testing.assert_allclose(profile.mae[0], scores.ring_mae[:2].mean(axis=(0, 1)))
    np.testing.assert_allclose(profile.error, scores.error[:2].mean(axis=0))
    assert np.isnan(profile.spc[:, 0]).all()
    mean, low, high = profile.spc[:, 1:]
    np.testing.assert_allclose(mean, scores.ring_spc[:2, :, 1:].mean(axis=(0, 1)))
    assert (low < mean).all()
    assert (mean < high).all()


def test_maps_that_are_too_small_and_controls_have_no_profile():
    small = make_result()
    without = {name: Scores(s.spc, s.mae) for name, s in small.scores.items()}
    assert profiles([dataclasses.replace(small, scores=without)]) == []
    assert profiles([make_result(control="roll")]) == []
