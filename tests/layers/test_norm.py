"""Batch normalisation: PyTorch's steps, ragged batches, and one result on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
from reference import TORCH, draw

from posjax.layers import BatchNorm

AFFINE = {
    "scale": np.array([0.5, -1.0, 2.0, 1.5], np.float32),
    "bias": np.array([0.1, 0.2, -0.3, 0.0], np.float32),
}
FRESH = {"mean": np.zeros(4, np.float32), "var": np.ones(4, np.float32)}


def trained(x, batch_stats=FRESH, **options):
    """Response and new statistics of one training step."""
    variables = {"params": AFFINE, "batch_stats": batch_stats}
    y, changed = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"], **options)
    return y, changed["batch_stats"]


def same(tree, expected, tolerance=1e-5):
    for one, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_three_training_steps_and_evaluation_are_those_of_pytorch():
    batch_stats = FRESH
    for step in range(3):
        x = 3 * draw(10 + step, 3, 2, 4, 4) + 2
        y, batch_stats = trained(x, batch_stats)
        same(y, TORCH[f"norm.{step}.y"])
        same(batch_stats["mean"], TORCH[f"norm.{step}.running_mean"])
        same(batch_stats["var"], TORCH[f"norm.{step}.running_var"])
    x = 3 * draw(30, 3, 2, 4, 4) + 2
    variables = {"params": AFFINE, "batch_stats": batch_stats}
    y, unchanged = BatchNorm().apply(variables, x, mutable=["batch_stats"])
    same(y, TORCH["norm.eval"])
    same(unchanged["batch_stats"], batch_stats, 0)


def test_gradients_through_the_batch_statistics_are_those_of_pytorch():
    x, response = 3 * draw(10, 3, 2, 4, 4) + 2, draw(20, 3, 2, 4, 4)

    def loss(x, params):
        variables = {"params": params, "batch_stats": FRESH}
        y, _ = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(response * y)

    along_x, along_params = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, AFFINE)
    same(along_x, TORCH["norm.0.grad"])
    same(along_params["scale"], TORCH["norm.0.weight_grad"])
    same(along_params["bias"], TORCH["norm.0.bias_grad"])


def test_initialisation_is_the_identity_and_counts_no_step():
    x = 3 * draw(0, 2, 3, 3, 4) + 2
    variables = BatchNorm().init(jax.random.key(0), x, train=True)
    same(variables["params"], {"scale": np.ones(4), "bias": np.zeros(4)}, 0)
    same(variables["batch_stats"], FRESH, 0)
    np.testing.assert_allclose(BatchNorm().apply(variables, x), x / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_rows_with_mask_0_do_not_count():
    x, mask = 3 * draw(0, 6, 3, 3, 4) + 2, np.array([1, 0, 1, 1, 0, 0], np.float32)
    y, batch_stats = trained(x, mask=jnp.asarray(mask))
    y_kept, batch_stats_kept = trained(x[mask == 1])
    same(batch_stats, batch_stats_kept)
    same(y[mask == 1], y_kept)
    spoilt = np.where(mask[:, None, None, None] == 1, x, 1e3).astype(np.float32)
    same(trained(spoilt, mask=jnp.asarray(mask))[1], batch_stats_kept)


def test_eight_devices_take_the_statistics_of_the_global_batch():
    # Two rows on each device; the last ones are masked, whole devices of them.
    x, rows = 3 * draw(0, 16, 3, 3, 4) + np.arange(16, dtype=np.float32)[:, None, None, None], 3
    mask = np.float32(np.arange(16) < rows)

    def step(x, mask):
        return trained(x, mask=mask, axis_name="devices")

    shards = x.reshape(8, 2, 3, 3, 4), mask.reshape(8, 2)
    y, batch_stats = jax.pmap(step, axis_name="devices")(*shards)
    y_one, batch_stats_one = trained(x[:rows])
    same(np.reshape(y, x.shape)[:rows], y_one)
    for device in range(8):
        same(jax.tree.map(lambda a, d=device: a[d], batch_stats), batch_stats_one)


def test_gradients_on_eight_devices_are_those_of_one():
    x, response = draw(0, 8, 3, 3, 4), draw(1, 8, 3, 3, 4)

    def loss(params, x, response, axis_name=None):
        variables = {"params": params, "batch_stats": FRESH}
        y, _ = BatchNorm().apply(
            variables, x, train=True, axis_name=axis_name, mutable=["batch_stats"]
        )
        return jnp.sum(response * jnp.square(y))

    def along_x(x, response):
        return jax.grad(loss, argnums=1)(AFFINE, x, response, "devices")

    gradient = jax.pmap(along_x, axis_name="devices")(x[:, None], response[:, None])
    expected = jax.grad(loss, argnums=1)(AFFINE, x, response)
    same(np.reshape(gradient, x.shape), expected, 1e-4)


def test_bfloat16_stays_bfloat16_over_float32_statistics():
    x = jnp.asarray(3 * draw(0, 4, 8, 8, 4) + 50, "bfloat16")
    variables = BatchNorm().init(jax.random.key(0), x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert BatchNorm().apply(variables, x).dtype == "bfloat16"
    y, batch_stats = trained(x)
    assert y.dtype == "bfloat16"
    y_wide, batch_stats_wide = trained(x.astype("float32"))
    same(batch_stats, batch_stats_wide)
    np.testing.assert_array_equal(y, y_wide.astype("bfloat16"))
