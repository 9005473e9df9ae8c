"""Intervals: they cover what they should, and undefined values are left out."""

import numpy as np

from posjax.results import intervals
from posjax.results.intervals import bootstrap_mean, bootstrap_rings


def test_one_seed_gives_the_interval_of_the_mean_over_images():
    values = np.random.default_rng(0).normal(3, 2, (1, 400))
    mean, low, high = bootstrap_mean(values)
    np.testing.assert_allclose(mean, values.mean(), rtol=1e-12)
    half_width = 1.96 * values.std() / np.sqrt(400)
    np.testing.assert_allclose([mean - low, high - mean], half_width, rtol=0.12)
    assert bootstrap_mean(values.copy()) == (mean, low, high)


def naive_bootstrap(values, resamples, rng):
    """Seeds and images, the same images for all drawn seeds."""
    means = []
    for _ in range(resamples):
        images = rng.integers(values.shape[1], size=values.shape[1])
        drawn = values[rng.integers(len(values), size=len(values))][:, images]
        if not np.isnan(drawn).all():
            means.append(np.nanmean(drawn))
    return np.quantile(means, (0.025, 0.975))


def test_several_seeds_give_the_interval_of_the_crossed_bootstrap():
    rng = np.random.default_rng(0)
    values = rng.normal(rng.normal(0, 1, (3, 1)), 1, (3, 10))
    values[0, :7] = values[2, 3] = np.nan
    mean, low, high = bootstrap_mean(values)
    np.testing.assert_allclose(mean, np.nanmean(values), rtol=1e-12)
    expected = naive_bootstrap(values, 3000, rng)
    np.testing.assert_allclose((low, high), expected, atol=0.06 * np.ptp(expected))


def test_the_interval_covers_the_truth_when_seeds_share_the_effects_of_images():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        image_effects = rng.normal(size=50)
        _, low, high = bootstrap_mean(image_effects + 0.2 * rng.normal(size=(3, 50)), 300)
        covered += low <= 0 <= high
    assert covered >= 86


def test_undefined_values_are_left_out_and_nothing_defined_is_none():
    values = np.array([[0.5, np.nan, 0.5], [np.nan, np.nan, 0.5]])
    assert bootstrap_mean(values) == (0.5, 0.5, 0.5)
    assert bootstrap_mean(np.array([[0.25]])) == (0.25, 0.25, 0.25)
    assert bootstrap_mean(np.full((2, 3), np.nan)) is None


def test_the_size_of_a_chunk_changes_the_interval_by_chance_alone(monkeypatch):
    values = np.random.default_rng(0).normal(size=(2, 30))
    values[0, :5] = np.nan
    mean, low, high = bootstrap_mean(values)
    monkeypatch.setattr(intervals, "CHUNK", 30 * 7)
    other = bootstrap_mean(values)
    assert other[0] == mean
    np.testing.assert_allclose(other[1:], (low, high), atol=0.08 * (high - low))


def test_rings_have_the_interval_that_each_has_alone():
    rng = np.random.default_rng(0)
    values = rng.normal(rng.normal(0, 0.3, (3, 1, 4)), 1, (3, 40, 4))
    values[:, :, 2] = np.nan
    values[0, :9, 1] = np.nan
    rings = bootstrap_rings(values)
    assert np.isnan(rings[:, 2]).all()
    for ring in (0, 1, 3):
        expected = bootstrap_mean(values[:, :, ring])
        np.testing.assert_allclose(rings[0, ring], expected[0], rtol=1e-9)
        np.testing.assert_allclose(
            rings[1:, ring], expected[1:], atol=0.15 * (expected[2] - expected[1])
        )
