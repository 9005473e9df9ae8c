"""Classification: what it measures, and which part of given weights it takes."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import encoders
from posjax.training import Classification
from posjax.training.classification import CrossEntropy
from posjax.training.initial import with_encoder


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_measures_count_every_image_and_the_loss_is_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(8, 3)).astype(np.float32), rng.integers(0, 3, 8)
    objective = CrossEntropy(encoders.create("resnet20"), smoothing=0.1)
    given = jnp.asarray(logits), jnp.asarray(labels, jnp.int32)
    losses, measures = objective.losses(*given), objective.measures(*given)
    right = np.argmax(logits, axis=1) == labels
    np.testing.assert_array_equal(measures["accuracy"], right)
    wide = logits.astype(np.float64)
    expected = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(8), labels]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    summary = objective.summary(jax.device_get({"loss": losses, **measures}))
    assert (summary["correct"], summary["count"]) == (right.sum(), 8)


def test_a_head_comes_along_and_one_that_the_weights_lack_stays_random(resnet20_variables):
    fresh, trained = resnet20_variables(0), resnet20_variables(1)
    assert_same(Classification().with_encoder(fresh, trained), trained)
    bare = resnet20_variables(1, num_classes=None)
    merged = copy.deepcopy(Classification().with_encoder(fresh, bare))
    assert_same(merged["params"].pop("linear"), fresh["params"]["linear"])
    assert_same(merged, bare)


def test_a_head_of_other_classes_is_left_out_with_a_note(resnet20_variables, capsys):
    fresh, other = resnet20_variables(0), resnet20_variables(1, num_classes=3)
    merged = Classification().with_encoder(fresh, other)
    assert "the weights are of 3 classes, the images have 2" in capsys.readouterr().err
    assert_same(merged["params"]["linear"], fresh["params"]["linear"])
    assert_same(merged["params"]["conv1"], other["params"]["conv1"])


def test_weights_with_other_layers_are_refused(resnet20_variables):
    with pytest.raises(ValueError, match="other layers than what is trained: linear"):
        with_encoder(resnet20_variables(0), resnet20_variables(1, num_classes=3))
