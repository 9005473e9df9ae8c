"""PPP from sums: a known pattern is recovered, with intervals that cover it."""

import numpy as np
import pytest

from posjax.ppp.pattern import Sums, half_width, over_seeds, pattern, score_interval

SHAPE = (6, 5, 40)


def sums(differences, features):
    return Sums(
        len(differences),
        differences.sum(axis=0),
        float((differences**2).sum()),
        float(features.sum()),
        float((features**2).sum()),
    )


def drawn(strength, noise, n=40, seed=0):
    """A pattern of known strength in every image, and what differs from image to image."""
    rng = np.random.default_rng(seed)
    constant = strength * rng.choice((-1, 1), SHAPE)
    differences = constant + noise * rng.normal(size=(n, *SHAPE))
    features = 3 + 2 * rng.normal(size=(n, *SHAPE))
    return [
        sums(d, f) for d, f in zip(np.split(differences, 5), np.split(features, 5), strict=True)
    ]


def test_magnitude_strength_and_snr_of_a_known_pattern_are_recovered():
    measured = pattern(drawn(strength=0.5, noise=1.0))
    assert measured.map.shape == (6, 5)
    np.testing.assert_allclose(measured.map.mean(), measured.magnitude[0], rtol=1e-6)
    np.testing.assert_allclose(measured.magnitude[0], 0.5 / 2, rtol=0.05)
    np.testing.assert_allclose(measured.strength[0], 0.5 / 2, rtol=0.05)
    np.testing.assert_allclose(measured.snr[0], 0.5, rtol=0.05)


def test_chance_adds_to_the_magnitude_alone():
    patterns = [pattern(drawn(0.0, 1.0, seed=seed)) for seed in range(5)]
    assert max(measured.snr[0] for measured in patterns) < 0.05
    assert max(measured.strength[0] for measured in patterns) < 0.025
    chance = np.sqrt(2 / (np.pi * 40)) / 2
    magnitudes = [measured.magnitude[0] for measured in patterns]
    np.testing.assert_allclose(magnitudes, chance, rtol=0.1)


def test_intervals_cover_the_true_snr_as_often_as_they_say():
    covered = 0
    for seed in range(60):
        snr = pattern(drawn(0.3, 1.0, seed=seed)).snr
        covered += abs(snr[0] - 0.3) <= half_width(snr)
    assert covered >= 52  # 95 % of 60 are 57, and less than 52 come by chance once in 200


def test_a_pattern_without_noise_has_a_magnitude_and_no_snr():
    measured = pattern(drawn(0.5, 0.0))
    assert np.isnan(measured.snr[0])
    assert half_width(measured.magnitude) < 0.01


def test_rounding_of_equal_features_is_no_variance():
    # Under `valid` padded and surrounded features are the same sums in another order.
    measured = pattern(drawn(0.0, 2e-6))
    nothing = pattern(drawn(0.0, 0.0))
    assert nothing.magnitude[0] == nothing.strength[0] == 0
    assert np.isnan(nothing.snr[0])
    assert np.isnan(measured.snr[0])
    assert measured.magnitude[0] < 1e-5
    assert pattern(drawn(0.0, 1e-3)).snr[0] < 0.1


def test_coarser_arithmetic_rounds_more():
    step = 2.0**-7
    assert np.isnan(pattern(drawn(0.0, step), step).snr[0])  # features vary by 2
    assert np.isfinite(pattern(drawn(0.0, 4 * step), step).snr[0])


def test_an_interval_needs_two_parts():
    with pytest.raises(ValueError, match="2 parts"):
        pattern(drawn(1.0, 1.0)[:1])


def test_seeds_widen_the_interval_by_their_spread():
    one = np.array([1.0, 0.9, 1.1, 1.0])
    _, low, high = over_seeds([one] * 3)
    np.testing.assert_allclose((low + high) / 2, 1.0)
    np.testing.assert_allclose(high - 1, half_width(one))
    apart = [one - 1 + value for value in (0.0, 1.0, 2.0)]
    value, low, high = over_seeds(apart)
    assert value == 1.0
    assert high - 1 > 4.3 / np.sqrt(3)  # Student's t of two degrees of freedom
    assert low < 0 == score_interval(apart)[1]
