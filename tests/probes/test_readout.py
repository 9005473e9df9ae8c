"""The readout: the released PosENet, step by step, against numpy and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate
from scipy.special import expit

from posjax.probes import Readout

SHAPES = {"f1": (9, 7, 2), "f2": (5, 4, 3), "f3": (2, 2, 1)}


def make_stages(n=2, shapes=SHAPES):
    draw = np.random.default_rng(0).normal
    return {name: draw(size=(n, *s)).astype(np.float32) for name, s in shapes.items()}


def make_variables(readout, stages):
    """Random numbers for all of a readout's variables; variances are positive."""
    drawn = np.random.default_rng(1)
    tree = jax.eval_shape(readout.init, jax.random.key(0), stages)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            drawn.uniform(0.5, 1.5, leaf.shape)
            if path[-1].key in ("var", "scale")
            else drawn.normal(size=leaf.shape) / 3
        ).astype(np.float32),
        tree,
    )


def resize(x, size, align_corners):
    """Bilinear interpolation of [n, h, w, c], one axis after the other."""
    for axis, target in zip((1, 2), size, strict=True):
        source = x.shape[axis]
        at = (
            np.linspace(0, source - 1, target)
            if align_corners
            else (np.arange(target) + 0.5) * source / target - 0.5
        )
        x = np.apply_along_axis(lambda v, at=at, n=source: np.interp(at, np.arange(n), v), axis, x)
    return x


def numpy_readout(readout, variables, stages):
    x = [resize(stages[name], readout.feature_size, True) for name in ("f1", "f2", "f3")]
    x = np.concatenate(x, axis=3).astype(np.float64)
    for layer in range(1, readout.depth + 1):
        conv = variables["params"][f"conv{layer}"]
        norm = variables["params"][f"norm{layer}"] | variables["batch_stats"][f"norm{layer}"]
        p = readout.padding
        x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        kernels = np.moveaxis(conv["kernel"], -1, 0)
        maps = [[correlate(image, k, "valid")[..., 0] for k in kernels] for image in x]
        x = np.moveaxis(np.array(maps), 1, -1) + conv["bias"]
        x = (x - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0) if layer < readout.depth else expit(x)
    return resize(x, readout.map_size, False)[..., 0]


@pytest.mark.parametrize(
    "options",
    [{}, {"depth": 3}, {"depth": 2, "kernel_size": 5, "padding": 2}, {"kernel_size": 1}],
    ids=str,
)
def test_predictions_are_those_of_the_recipe_in_numpy(options):
    readout = Readout(feature_size=(9, 8), map_size=(20, 13), **options)
    stages = make_stages()
    variables = make_variables(readout, stages)
    predicted = jax.jit(readout.apply)(variables, stages)
    assert predicted.shape == (2, 20, 13)
    assert predicted.dtype == jnp.float32
    np.testing.assert_allclose(predicted, numpy_readout(readout, variables, stages), atol=1e-5)


def test_init_gives_glorot_kernels_and_neutral_norms():
    readout = Readout(depth=2, kernel_size=5, padding=1, feature_size=(9, 8), map_size=(20, 13))
    variables = jax.jit(readout.init)(jax.random.key(0), make_stages())
    layers = {1: (5, 5, 6, 6), 2: (5, 5, 6, 1)}
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {f"conv{i}": {"kernel": s, "bias": s[3:]} for i, s in layers.items()}
        | {f"norm{i}": {"scale": s[3:], "bias": s[3:]} for i, s in layers.items()},
        "batch_stats": {f"norm{i}": {"mean": s[3:], "var": s[3:]} for i, s in layers.items()},
    }
    for i, shape in layers.items():
        conv, norm = (variables["params"][f"{part}{i}"] for part in ("conv", "norm"))
        bound = np.sqrt(6 / (25 * (shape[2] + shape[3])))  # Glorot & Bengio 2010, uniform
        assert 0.9 * bound < np.abs(conv["kernel"]).max() <= bound
        np.testing.assert_allclose(np.std(conv["kernel"]), bound / np.sqrt(3), rtol=0.2)
        assert not conv["bias"].any()
        assert (norm["scale"] == 1).all()
        assert not norm["bias"].any()
        assert not variables["batch_stats"][f"norm{i}"]["mean"].any()
        assert (variables["batch_stats"][f"norm{i}"]["var"] == 1).all()


def test_the_paper_s_readout_is_the_default():
    readout = Readout()
    assert readout.response_size == (26, 26)
    stages = {"f1": jax.ShapeDtypeStruct((2, 30, 30, 4), jnp.float32)}
    variables = jax.eval_shape(readout.init, jax.random.key(0), stages)
    assert set(variables["params"]) == {"conv1", "norm1"}
    assert jax.eval_shape(readout.apply, variables, stages).shape == (2, 224, 224)


def test_stages_are_read_in_the_order_of_their_names():
    readout = Readout(feature_size=(9, 8), map_size=(8, 8))
    stages = make_stages()
    aligned = readout.align(dict(reversed(stages.items())))
    jax.tree.map(np.testing.assert_array_equal, aligned, tuple(stages.values()))


def test_a_stage_that_is_no_larger_than_the_features_passes_unchanged():
    readout = Readout(feature_size=(5, 4), map_size=(8, 8))
    stage = jnp.asarray(make_stages()["f2"], jnp.bfloat16)
    (aligned,) = readout.align({"f2": stage})
    assert aligned.dtype == jnp.bfloat16
    np.testing.assert_array_equal(aligned, stage)


def test_training_moves_the_running_statistics_and_nothing_else():
    readout = Readout(kernel_size=1, feature_size=(5, 4), map_size=(8, 8))
    stages = {"f2": make_stages(3)["f2"]}
    variables = make_variables(readout, stages)
    train = jax.jit(lambda v, x: readout.apply(v, x, train=True, mutable=["batch_stats"]))
    training, updated = train(variables, stages)
    assert set(updated) == {"batch_stats"}
    conv = variables["params"]["conv1"]
    response = stages["f2"].astype(np.float64) @ conv["kernel"][0, 0] + conv["bias"]
    before = variables["batch_stats"]["norm1"]
    for key, batch in (("mean", response.mean()), ("var", response.var(ddof=1))):
        expected = 0.9 * before[key] + 0.1 * batch
        np.testing.assert_allclose(updated["batch_stats"]["norm1"][key], expected, rtol=1e-5)
    # Evaluation reads the running statistics: each image alone.
    evaluate = jax.jit(readout.apply)
    alone = evaluate(variables, {"f2": stages["f2"][:1]})
    np.testing.assert_allclose(evaluate(variables, stages)[:1], alone, atol=1e-6)
    assert np.abs(training[:1] - alone).max() > 0.01
    with pytest.raises(Exception, match="batch_stats"):
        readout.apply(variables, stages, train=True)


@given(
    depth=st.integers(1, 3),
    kernel_size=st.integers(1, 7),
    padding=st.integers(0, 3),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
@settings(max_examples=20, deadline=None)
def test_the_response_has_its_response_size_or_the_readout_is_refused(
    depth, kernel_size, padding, size
):
    expected = size
    for _ in range(depth):
        expected = tuple(side + 2 * padding - kernel_size + 1 for side in expected)
    options = {"depth": depth, "kernel_size": kernel_size, "padding": padding}
    if min(expected) < 1:
        with pytest.raises(ValueError, match="leave nothing"):
            Readout(feature_size=size, **options)
        return
    readout = Readout(feature_size=size, **options)
    assert readout.response_size == expected
    features = jax.ShapeDtypeStruct((1, *size, 2), jnp.float32)
    response, _ = jax.eval_shape(
        lambda x: readout.init_with_output(jax.random.key(0), (x,), method="respond"), features
    )
    assert response.shape == (1, *expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "0, 3, 0"),
        ({"kernel_size": 0}, "1, 0, 0"),
        ({"padding": -1}, "1, 3, -1"),
        ({"depth": 2, "linear": True}, "depth 1, not 2"),
    ],
    ids=str,
)
def test_impossible_readouts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Readout(**options)
