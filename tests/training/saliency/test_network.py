"""Saliency: the decoder brings no padding, and the figures are those of their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from posjax import encoders
from posjax.layers import resize_bilinear
from posjax.training.saliency.network import (
    FIGURES,
    Saliency,
    SaliencyNetwork,
    continued,
    saliency_figures,
    saliency_measures,
)

NAME = "vgg8_bn_quarter"
QUICK = {"xla_backend_optimization_level": 0}
OBJECTIVE = Saliency(SaliencyNetwork(NAME))


def f_of(chosen, truth):
    hits = (chosen & truth).sum()
    if hits == 0:
        return 0.0
    precision, recall = hits / chosen.sum(), hits / truth.sum()
    return 1.3 * precision * recall / (0.3 * precision + recall)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    truth = rng.random((5, 9, 8)) < 0.3
    noise = rng.random((5, 9, 8)).astype(np.float32)
    predicted = np.clip(0.4 * truth + 0.6 * noise, 0, 1).astype(np.float32)
    predicted[3] = 0.25  # at twice the mean there is nothing
    return predicted, truth


def test_measures_of_an_image_are_those_of_their_definitions(pairs):
    found = jax.device_get(saliency_measures(*pairs))
    for i, (predicted, truth) in enumerate(zip(*pairs, strict=True)):
        np.testing.assert_allclose(found["mae"][i], abs(predicted - truth).mean(), atol=1e-6)
        threshold = min(2 * predicted.mean(), 1)
        np.testing.assert_allclose(
            found["f_adaptive"][i], f_of(predicted >= threshold, truth), atol=1e-6
        )
        for level in (0, 1, 64, 100, 200, 255):
            chosen = np.rint(predicted * 255) >= level
            hits = (chosen & truth).sum()
            np.testing.assert_allclose(found["recall"][i, level], hits / truth.sum(), atol=1e-6)
            np.testing.assert_allclose(
                found["precision"][i, level], hits / max(chosen.sum(), 1), atol=1e-6
            )
        for kind, (a, b) in enumerate(((predicted < 0.5, ~truth), (predicted >= 0.5, truth))):
            assert found["intersection"][i, kind] == (a & b).sum()
            assert found["union"][i, kind] == (a | b).sum()


def test_figures_are_those_of_their_definitions_and_weights_count_images(pairs):
    found = jax.device_get(saliency_measures(*pairs))
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 3]])
    figures = saliency_figures({k: v[None] for k, v in found.items()}, weights)
    for row, counts in enumerate(weights):
        predicted, truth = (np.repeat(array, counts, axis=0) for array in pairs)
        assert figures["mae"][row, 0] == pytest.approx(abs(predicted - truth).mean(), abs=1e-6)
        adaptive = [
            f_of(p >= min(2 * p.mean(), 1), t) for p, t in zip(predicted, truth, strict=True)
        ]
        assert figures["f_adaptive"][row, 0] == pytest.approx(np.mean(adaptive), abs=1e-6)
        both = [((predicted >= 0.5) == side) & (truth == side) for side in (False, True)]
        either = [((predicted >= 0.5) == side) | (truth == side) for side in (False, True)]
        overlap = [a.sum() / b.sum() for a, b in zip(both, either, strict=True)]
        assert figures["miou"][row, 0] == pytest.approx(np.mean(overlap), abs=1e-6)
        best = 0
        for level in range(256):
            chosen = np.rint(predicted * 255) >= level
            hits = (chosen & truth).sum(axis=(1, 2))
            precision = np.mean(hits / np.maximum(chosen.sum(axis=(1, 2)), 1))
            recall = np.mean(hits / truth.sum(axis=(1, 2)))
            best = max(best, 1.3 * precision * recall / max(0.3 * precision + recall, 1e-9))
        assert figures["f_max"][row, 0] == pytest.approx(best, abs=1e-5)


def test_an_image_without_a_salient_pixel_has_no_f_measure_and_is_counted(pairs):
    predicted, truth = pairs[0], pairs[1].copy()
    truth[1] = False
    found = jax.device_get(saliency_measures(predicted, truth))
    summary = OBJECTIVE.summary({**found, "loss": np.ones(5)})
    assert (summary["empty"], summary["count"]) == (1, 5)
    rest = [0, 2, 3, 4]
    without = jax.device_get(
        saliency_measures(jnp.asarray(predicted[rest]), jnp.asarray(truth[rest]))
    )
    expected = OBJECTIVE.summary({**without, "loss": np.ones(4)})
    for name in ("f_adaptive", "f_max"):
        assert summary[name] == pytest.approx(expected[name], abs=1e-6)
    truth[:] = False
    found = jax.device_get(saliency_measures(predicted, truth))
    nothing = OBJECTIVE.summary({**found, "loss": np.ones(5)})
    assert np.isnan([nothing["f_adaptive"], nothing["f_max"]]).all()
    assert set(FIGURES) <= nothing.keys()


def test_the_loss_is_binary_cross_entropy():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 4, 5)).astype(np.float32)
    masks = rng.integers(0, 256, (3, 4, 5)).astype(np.uint8)
    p, t = expit(logits.astype(np.float64)), masks / 255
    for smoothing in (0.0, 0.2):
        wanted = t * (1 - smoothing) + smoothing / 2
        expected = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean(axis=(1, 2))
        found = OBJECTIVE.losses(jnp.asarray(logits), jnp.asarray(masks), smoothing)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def variables():
    network = SaliencyNetwork(NAME)
    images = jnp.zeros((1, 96, 96, 3))
    return jax.jit(network.init, compiler_options=QUICK)(jax.random.key(0), images)


def test_the_encoder_is_that_of_create(variables):
    own = encoders.create(NAME).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    for kind in ("params", "batch_stats"):
        shapes = jax.tree.map(jnp.shape, variables[kind]["encoder"])
        assert shapes == jax.tree.map(jnp.shape, own[kind])


def test_under_circular_padding_a_rolled_image_gives_the_rolled_prediction(variables):
    """Nothing in the decoder tells of place, but the resizes at the frame itself."""
    images = np.random.default_rng(0).random((1, 96, 96, 3)).astype(np.float32)
    rolled = np.roll(images, 32, axis=(1, 2))
    predict = jax.jit(SaliencyNetwork(NAME, "circular").apply, compiler_options=QUICK)
    here, there = (np.asarray(predict(variables, x))[0] for x in (images, rolled))
    moved = np.roll(here, 32, axis=(0, 1))
    # Bilinear resizes continue the edges of the frame, by half a response of the coarsest stage.
    inside = np.zeros((96, 96), bool)
    inside[10:22, 10:22] = inside[42:86, 42:86] = True
    np.testing.assert_allclose(there[inside], moved[inside], atol=1e-5)
    assert abs(there - here)[inside].max() > 1e-3


def test_without_padding_stages_are_continued_where_padded_ones_are(variables):
    """Nearer to the padded stage than if they lay one response beside it."""
    coarse = np.random.default_rng(0).random((1, 12, 12, 3)).astype(np.float32)
    images = resize_bilinear(coarse, (192, 192), align_corners=False)
    own = {kind: tree["encoder"] for kind, tree in variables.items()}
    padded, bare = (
        jax.jit(encoders.create(NAME, mode).apply, compiler_options=QUICK)(own, images)
        for mode in ("zeros", "valid")
    )
    for name in padded:
        side = padded[name].shape[1]
        found = np.asarray(continued(bare[name], (side, side)))
        assert found.shape == padded[name].shape
        middle = slice(side // 4, -(side // 4))
        errors = {
            (down, right): abs(np.roll(found, (down, right), (1, 2)) - np.asarray(padded[name]))[
                :, middle, middle
            ].mean()
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        }
        # Half a response beside it two places are as near as each other.
        assert errors[0, 0] <= 1.2 * min(errors.values()), (name, errors)
        assert errors[0, 0] < 0.8 * max(errors.values()), (name, errors)
    np.testing.assert_allclose(
        continued(bare["f1"], (192, 192))[:, 1:-1, 1:-1], padded["f1"][:, 1:-1, 1:-1], atol=1e-5
    )
