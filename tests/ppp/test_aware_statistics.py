"""Which channels are aware: false ones are rare, true ones are found, of many or few channels."""

import numpy as np
import pytest

from posjax.ppp.aware import BORDERS, LayerBorders
from posjax.ppp.aware_statistics import aware_channels, border_effects


def layer(effects, n=30, noise=0.5, seed=0):
    """Borders of a layer whose channels have these effects [4, c], in deviations of 2."""
    rng = np.random.default_rng(seed)
    channels = effects.shape[1]
    difference = 2 * (effects + noise * rng.normal(size=(n, 4, channels)))
    return LayerBorders(difference, np.zeros((n, channels)), np.full((n, channels), 4.0))


def test_random_channels_whose_effects_are_small_are_rarely_aware():
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        borders = {str(c): layer(rng.uniform(-1, 1, (4, c)), n=8, seed=seed) for c in (16, 32, 64)}
        found += any(row.aware for row in border_effects(borders))
    assert found <= 4  # 1 of 100 are expected at most, more than 4 come by chance once in 300


def test_no_more_of_those_that_are_found_are_false_than_the_rate_says():
    false, found = 0, 0
    for seed in range(60):
        effects = np.ones((4, 64))  # the largest effect that is not aware
        effects[:, :16] = 2
        for row in border_effects({"layer": layer(effects, seed=seed)}, rate=0.1):
            found += row.aware
            false += row.aware and row.channel >= 16
    assert found > 0.95 * 60 * 64
    # The rate times the part of channels that are not aware, with room for chance.
    assert 0.03 < false / found < 0.1


def test_channels_are_found_at_their_border_with_intervals_that_hold_their_effects():
    effects = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 32))
    effects[0, 3], effects[2, 5] = 2, -3
    rows = border_effects({"layer": layer(effects)})
    found = [row for row in rows if row.aware]
    assert {(row.channel, row.border) for row in found} == {(3, "top"), (5, "left")}
    held = [row.low < effects[BORDERS.index(row.border), row.channel] < row.high for row in rows]
    assert np.mean(held) == pytest.approx(0.95, abs=0.05)
    assert aware_channels(rows) == {"layer": (3, 5)}


def test_all_channels_of_a_layer_may_be_aware():
    rows = border_effects({"layer": layer(np.full((4, 16), 1.8))})
    assert all(row.aware for row in rows)
    assert not any(row.aware for row in border_effects({"layer": layer(np.full((4, 16), 0.8))}))


def test_an_effect_that_one_image_makes_is_not_aware():
    borders = layer(np.zeros((4, 16)), n=6, noise=0.01)
    borders.difference[0, 0, 3] = 100
    (row,) = [r for r in border_effects({"layer": borders}) if (r.channel, r.border) == (3, "top")]
    assert row.effect > 5
    assert row.low < 0
    assert not row.aware


def test_borders_without_padding_and_channels_that_never_vary_are_no_rows():
    borders = layer(np.random.default_rng(3).normal(size=(4, 16)))
    borders.difference[:, [1, 3]] = np.nan
    borders.variance[:, 2] = 0
    rows = border_effects({"layer": borders})
    assert {row.border for row in rows} == {"top", "left"}
    assert {row.channel for row in rows} == set(range(16)) - {2}
    assert all(np.isfinite((row.effect, row.low, row.high, row.p)).all() for row in rows)


def test_without_noise_the_effect_decides():
    effects = np.array([[1.001, 0.999]] * 4)
    rows = border_effects({"layer": layer(effects, noise=0)})
    assert aware_channels(rows) == {"layer": (0,)}
