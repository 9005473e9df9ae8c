"""Saliency networks: all that the decoder knows of place comes from the encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from posjax import encoders
from posjax.encoders import Padding
from posjax.layers import resize_bilinear
from posjax.training.saliency.network import SaliencyNetwork, SaliencyObjective, continued

NAME = "vgg8_bn_quarter"
QUICK = {"xla_backend_optimization_level": 0}
OBJECTIVE = SaliencyObjective(SaliencyNetwork(NAME))


def test_the_loss_is_binary_cross_entropy():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 4, 5)).astype(np.float32)
    masks = rng.integers(0, 256, (3, 4, 5)).astype(np.uint8)
    p, t = expit(logits.astype(np.float64)), masks / 255
    for smoothing in (0.0, 0.2):
        wanted = t * (1 - smoothing) + smoothing / 2
        expected = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean(axis=(1, 2))
        losses = OBJECTIVE.losses(jnp.asarray(logits), jnp.asarray(masks), smoothing)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_the_summary_counts_images_without_a_salient_pixel():
    logits, masks = jnp.zeros((5, 4, 4)), np.full((5, 4, 4), 255, np.uint8)
    masks[1] = 0
    measures = jax.device_get(OBJECTIVE.measures(logits, jnp.asarray(masks)))
    summary = OBJECTIVE.summary({**measures, "loss": np.ones(5)})
    assert (summary["empty"], summary["count"]) == (1, 5)
    assert summary.keys() == set(OBJECTIVE.tested)


@pytest.fixture(scope="module")
def variables():
    init = jax.jit(SaliencyNetwork(NAME).init, compiler_options=QUICK)
    return init(jax.random.key(0), jnp.zeros((1, 96, 96, 3)))


def test_the_encoder_is_that_of_create(variables):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    encoder = jax.eval_shape(encoders.create(NAME).init, jax.random.key(0), images)
    for kind in ("params", "batch_stats"):
        shapes = jax.tree.map(jnp.shape, variables[kind]["encoder"])
        assert shapes == jax.tree.map(jnp.shape, encoder[kind])


def test_under_circular_padding_a_rolled_image_gives_the_rolled_prediction(variables):
    """Nothing in the decoder depends on place, except for the resizes at the frame itself."""
    images = np.random.default_rng(0).random((1, 96, 96, 3)).astype(np.float32)
    rolled = np.roll(images, 32, axis=(1, 2))
    network = SaliencyNetwork(NAME, Padding("circular"))
    predict = jax.jit(network.apply, compiler_options=QUICK)
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
    body = {kind: tree["encoder"] for kind, tree in variables.items()}
    padded, bare = (
        jax.jit(encoders.create(NAME, mode).apply, compiler_options=QUICK)(body, images)
        for mode in ("zeros", "valid")
    )
    for name in padded:
        side = padded[name].shape[1]
        actual, expected = np.asarray(continued(bare[name], (side, side))), np.asarray(padded[name])
        assert actual.shape == expected.shape
        middle = slice(side // 4, -(side // 4))
        errors = {
            (down, right): abs(np.roll(actual, (down, right), (1, 2)) - expected)[
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
