"""Ridge: the closed form is that of the explicit design matrix in float64."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posjax.layers import interpolation_matrix
from posjax.probes import Readout, position_map
from posjax.probes.moments import Moments, add_images, moments, no_sums
from posjax.probes.ridge import PENALTIES, fit_ridge

SMALL = {"feature_size": (6, 5), "map_size": (12, 11), "linear": True}
MAPS = ("H", "V", "HS")


def targets_for(readout):
    return np.stack([position_map(name, readout.map_size) for name in MAPS])


def draw(n, channels=3, seed=0, size=(6, 5)):
    return np.random.default_rng(seed).normal(size=(n, *size, channels)).astype(np.float32)


@functools.cache
def add(readout):
    return jax.jit(functools.partial(add_images, readout))


def moments_of(readout, features, shift, mask=None):
    mask = np.ones(len(features), np.float32) if mask is None else mask
    if len(features) < 8:  # one size is compiled once
        more = 8 - len(features)
        features = np.pad(features, ((0, more), (0, 0), (0, 0), (0, 0)), constant_values=9)
        mask = np.pad(mask, (0, more))
    sums = add(readout)(no_sums(readout, shift), {"f1": features}, shift, mask)
    return moments(sums, int(mask.sum()))


def fit(readout, features, held_out, penalties=PENALTIES, shift=None):
    shift = features.mean(axis=(0, 1, 2)) if shift is None else shift
    both = (moments_of(readout, part, shift) for part in (features, held_out))
    return fit_ridge(readout, *both, shift, targets_for(readout), penalties)


def design(readout, features):
    """U X in float64: a row for each pixel of each map, a column for each tap and channel."""
    edge, (height, width) = readout.padding, readout.response_size
    padded = np.pad(features.astype(np.float64), ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    up = [
        interpolation_matrix(a, b, False)
        for a, b in zip(readout.response_size, readout.map_size, strict=True)
    ]
    k = readout.kernel_size
    taps = [padded[:, i : i + height, j : j + width] for i in range(k) for j in range(k)]
    large = np.einsum("ah,nhwd,bw->nabd", up[0], np.concatenate(taps, axis=-1), up[1])
    return large.reshape(-1, large.shape[-1])


def reference(readout, features, penalty):
    """Weights and biases by least squares on the design matrix with rows for the penalty."""
    x = design(readout, features)
    t = np.tile(targets_for(readout).reshape(len(MAPS), -1).T, (len(features), 1)).astype(float)
    centred = x - x.mean(axis=0)
    scale = np.mean(centred**2) or 1.0
    rows = np.sqrt(len(x) * penalty * scale) * np.eye(x.shape[1])
    goal = np.concatenate([t - t.mean(axis=0), np.zeros((x.shape[1], len(MAPS)))])
    weights = np.linalg.lstsq(np.concatenate([centred, rows]), goal, rcond=None)[0]
    return weights, t.mean(axis=0) - x.mean(axis=0) @ weights


def errors(readout, features, weights, bias):
    goal = np.tile(targets_for(readout).reshape(len(MAPS), -1).T, (len(features), 1))
    return np.mean((design(readout, features) @ weights + bias - goal) ** 2, axis=0)


@functools.cache
def predict(readout):
    """[t, n, h, w], as they are scored."""

    def one(variables, features):
        return readout.upsample(readout.apply(variables, (features,), method="respond"))

    return jax.jit(jax.vmap(one, in_axes=(0, None)))


def assert_is_the_reference(readout, fitted, held_out, penalty, shift=None):
    ridge = fit(readout, fitted, held_out, (penalty,), shift)
    both = np.concatenate([fitted, held_out])
    weights, bias = reference(readout, both, penalty)
    expected = (design(readout, both) @ weights + bias).T
    actual = np.reshape(predict(readout)(ridge.variables, both), expected.shape)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    np.testing.assert_allclose(ridge.error, errors(readout, both, weights, bias), atol=1e-5)
    without = reference(readout, fitted, penalty)
    # Away from the images that were fitted, small penalties blow float32's rounding up.
    np.testing.assert_allclose(
        ridge.path.held_out[0], errors(readout, held_out, *without), rtol=5e-3
    )
    return ridge, weights


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"kernel_size": 2, "padding": 1},
        {"map_size": (6, 3)},  # some smaller than the response: no response is unique
    ],
    ids=str,
)
def test_the_closed_form_is_the_least_squares_solution(shape):
    readout = Readout(**SMALL | shape)
    for penalty in (1e3, 1e-1, 1e-5):
        ridge, weights = assert_is_the_reference(readout, draw(5), draw(3, seed=1), penalty)
        if penalty > 1e-5:
            kernel = ridge.variables["params"]["conv1"]["kernel"]
            np.testing.assert_allclose(kernel.reshape(len(MAPS), -1), weights.T, atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(1, 7),
    channels=st.sampled_from([2, 7]),
    log_condition=st.floats(0, 6),
    offset=st.sampled_from([0.0, 1.0, -30.0]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    constant=st.booleans(),
    penalty=st.sampled_from(PENALTIES[:7]),  # from 1000 to 0.001
    seed=st.integers(0, 99),
)
def test_correlated_constant_and_more_columns_than_rows(
    n, channels, log_condition, offset, scale, constant, penalty, seed
):
    rng = np.random.default_rng(seed)
    # One image and 7 channels have 63 columns, and 12 rows at the response's size.
    basis, _ = np.linalg.qr(rng.normal(size=(channels, channels)))
    mixed = draw(n + 1, channels, seed) @ (basis * 10 ** -np.linspace(0, log_condition, channels))
    features = (scale * (mixed @ basis.T + offset)).astype(np.float32)
    if constant:
        features[..., 0] = scale
    # The prediction too is of 8 images each time.
    features = np.concatenate([features, features[n:].repeat(7 - n, axis=0)])
    assert_is_the_reference(Readout(**SMALL), features[:n], features[n:], penalty)


def test_each_target_gets_the_penalty_with_the_smallest_held_out_error():
    readout = Readout(**SMALL)
    features = draw(8)
    features[..., 0] += np.linspace(0, 20, 5)  # a coordinate for H, nothing for V
    ridge = fit(readout, features[:5], features[5:])
    expected = np.stack(
        [
            errors(readout, features[5:], *reference(readout, features[:5], penalty))
            for penalty in PENALTIES
        ]
    )
    np.testing.assert_allclose(ridge.path.held_out, expected, atol=1e-5)
    np.testing.assert_array_equal(ridge.path.penalties, PENALTIES)
    np.testing.assert_array_equal(ridge.path.chosen, np.array(PENALTIES)[expected.argmin(axis=0)])
    assert ridge.path.chosen[0] < ridge.path.chosen[1]
    for i, penalty in enumerate(ridge.path.chosen):
        alone = fit(readout, features[:5], features[5:], (penalty,))
        for name, array in ridge.variables["params"]["conv1"].items():
            np.testing.assert_allclose(
                array[i], alone.variables["params"]["conv1"][name][i], atol=1e-6
            )


def test_a_mean_far_from_zero_costs_no_digits():
    features = draw(6) + np.float32(1000)
    readout = Readout(**SMALL)
    ridge = fit(readout, features[:4], features[4:], (1e-3,))
    weights, _ = reference(readout, features, 1e-3)
    kernel = ridge.variables["params"]["conv1"]["kernel"]
    np.testing.assert_allclose(kernel.reshape(len(MAPS), -1), weights.T, atol=1e-4)


def test_images_with_mask_0_do_not_count():
    readout, features = Readout(**SMALL), draw(5)
    shift = np.zeros(3, np.float32)
    mask = np.array([1, 0, 1, 1, 0], np.float32)
    actual = moments_of(readout, features, shift, mask)
    expected = moments_of(readout, features[mask > 0], shift)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    assert actual.count == 3


def test_sums_over_many_images_are_those_of_float64():
    readout = Readout(kernel_size=1, feature_size=(2, 2), map_size=(2, 2), linear=True)
    features = draw(20_000, 1, size=(2, 2)) + np.float32(3)
    actual = moments_of(readout, features, np.zeros(1, np.float32))
    # At the size of the map U is the identity. A running float32 sum is wrong by 3e-6.
    exact = np.mean(features.astype(np.float64) ** 2)
    assert actual.gram[0, 0] / actual.count == pytest.approx(exact, rel=3e-7)


def test_without_variance_the_prediction_is_the_mean_of_the_map():
    readout = Readout(**SMALL)
    features = np.full((5, 6, 5, 3), 0.25, np.float32)
    ridge = fit(readout, features[:3], features[3:])
    conv = ridge.variables["params"]["conv1"]
    np.testing.assert_array_equal(conv["kernel"], 0)
    np.testing.assert_allclose(conv["bias"][:, 0], targets_for(readout).mean(axis=(1, 2)))
    np.testing.assert_allclose(ridge.error, targets_for(readout).var(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(ridge.path.chosen, PENALTIES[0])


def test_features_beyond_float32_are_refused():
    with pytest.raises(FloatingPointError, match="not finite"):
        moments_of(Readout(**SMALL), draw(2) * np.float32(1e25), np.zeros(3, np.float32))


def test_targets_of_another_size_are_refused():
    readout = Readout(**SMALL)
    none = Moments(1, np.eye(27), np.zeros((12, 27)))
    with pytest.raises(ValueError, match=r"\(8, 8\).*\(12, 11\)"):
        fit_ridge(readout, none, none, np.zeros(3, np.float32), np.zeros((1, 8, 8)))


def test_features_that_vary_by_rounding_alone_are_constant():
    readout = Readout(**SMALL)
    one = np.array([0.3, 41.7, -2.9])
    features = (one * (1 + 1e-7 * draw(6))).astype(np.float32)
    ridge = fit(readout, features, features, shift=(one * (1 + 1e-7)).astype(np.float32))
    np.testing.assert_array_equal(ridge.variables["params"]["conv1"]["kernel"], 0)
    mean = targets_for(readout).mean(axis=(1, 2))
    np.testing.assert_allclose(ridge.variables["params"]["conv1"]["bias"][:, 0], mean, atol=1e-6)
