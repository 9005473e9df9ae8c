"""Classification: what it measures."""

import jax
import jax.numpy as jnp
import numpy as np

from posjax import encoders
from posjax.training.classification import CrossEntropy

OBJECTIVE = CrossEntropy(encoders.create("resnet20"))


def test_the_loss_is_the_cross_entropy_of_mixed_targets_and_every_image_counts():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(8, 3)).astype(np.float32), rng.integers(0, 3, 8)
    given = jnp.asarray(logits), jnp.asarray(labels, jnp.int32)
    wide = logits.astype(np.float64)
    logs = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    for smoothing in (0.0, 0.2):
        targets = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
        losses = OBJECTIVE.losses(*given, smoothing)
        np.testing.assert_allclose(losses, -(targets * logs).sum(axis=1), rtol=1e-5)
    measures = OBJECTIVE.measures(*given)
    right = np.argmax(logits, axis=1) == labels
    np.testing.assert_array_equal(measures["accuracy"], right)
    summary = OBJECTIVE.summary(jax.device_get({"loss": losses, **measures}))
    assert summary.keys() == set(OBJECTIVE.tested)
    assert (summary["correct"], summary["count"]) == (right.sum(), 8)
    np.testing.assert_allclose(summary["loss"], losses.mean(), rtol=1e-6)
