"""Summaries: scores over all seeds, as means, ring by ring, and in every cell."""

import dataclasses

import numpy as np
from synthetic import PHOTOS, PROBE, make_result, with_scores

from posjax.probes.scores import Scores
from posjax.results import profiles, summarise
from posjax.results.intervals import bootstrap_mean


def test_seeds_of_one_result_or_of_several_are_summarised_alike():
    whole = make_result(sets={"noise": 6})
    scores = whole.scores["noise"]
    parts = [
        with_scores(make_result(sets={"noise": 6}, seeds=(i,)), scores.spc[[i]], scores.mae[[i]])
        for i in (0, 1)
    ]
    (summary,) = summarise([whole])
    assert summarise(parts) == [summary]
    assert (summary.probe, summary.map, summary.test_images) == (PROBE, "H", "noise")
    assert (summary.n_seeds, summary.n_images, summary.spc_undefined) == (2, 6, 1)
    assert summary.spc == bootstrap_mean(scores.spc)
    assert summary.mae == bootstrap_mean(scores.mae)
    assert summary.skill == 1 - summary.mae[0] / summary.mae_constant


def test_probes_maps_and_test_images_are_summarised_apart_in_their_order():
    sets = {"noise": 2, "black": 1}
    results = [make_result(padding, ("V", "H"), sets=sets) for padding in ("valid", "zeros")]
    results[1].scores["noise"].mae[:] += 1
    summaries = summarise(results)
    assert [(s.probe.padding, s.test_images, s.map) for s in summaries] == [
        (padding, test_images, name)
        for padding in ("valid", "zeros")
        for test_images in ("noise", "black")
        for name in ("V", "H")
    ]
    assert [s.mae[0] > 1 for s in summaries] == [*[False] * 4, True, True, False, False]


def test_spc_is_none_where_every_prediction_is_constant():
    (summary,) = summarise([make_result("circular")])
    assert summary.spc is None
    assert summary.spc_undefined == 2 * 4
    assert np.isfinite(summary.mae).all()
    assert summary.test_images == PHOTOS


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
