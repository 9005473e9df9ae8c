"""Batch normalisation as PyTorch does it, over ragged batches and several devices."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float


class BatchNorm(nn.Module):
    """`torch.nn.BatchNorm2d`: ε 1e-5, running momentum 0.1, unbiased running variance.

    flax's own keeps the biased variance. In training, `mask` tells the rows that count, and
    `axis_name` the devices over which the statistics are taken. Parameters `scale`, `bias`;
    batch_stats `mean`, `var`. Statistics are computed in float32 or wider.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(
        self,
        x: Float[ArrayLike, "n h w c"],
        *,
        train: bool = False,
        mask: Float[Array, " n"] | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "n h w c"]:
        """Normalises each channel by its running (or, in training, its batch) statistics."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if not train:
            return _normalise(x, mean.value, var.value, scale, bias, self.epsilon)
        batch_mean, batch_var, count = batch_statistics(x, mask=mask, axis_name=axis_name)
        if not self.is_initializing():
            unbiased = lax.stop_gradient(batch_var) * count / jnp.maximum(count - 1, 1)
            mean.value += self.momentum * (lax.stop_gradient(batch_mean) - mean.value)
            var.value += self.momentum * (unbiased - var.value)
        return _normalise(x, batch_mean, batch_var, scale, bias, self.epsilon)


def batch_statistics(
    x: Float[ArrayLike, "n h w c"],
    *,
    mask: Float[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
    """Mean, biased variance, and the number of pixels behind them, over rows with mask 1.

    With `axis_name` the sums run over all devices of that axis, so that the statistics are those
    of the global batch.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    weight = jnp.ones(x.shape[0], x.dtype) if mask is None else mask.astype(x.dtype)
    weight = weight[:, None, None, None]

    def total(a: Array) -> Array:
        summed = jnp.sum(a, axis=(0, 1, 2))
        return summed if axis_name is None else lax.psum(summed, axis_name)

    count = total(jnp.broadcast_to(weight, (*x.shape[:3], 1)))[0]
    mean = total(x * weight) / count
    var = total(jnp.square(x - mean) * weight) / count
    return mean, var, count


def _normalise(
    x: ArrayLike, mean: ArrayLike, var: ArrayLike, scale: ArrayLike, bias: ArrayLike, epsilon: float
) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    mean, var, scale, bias = (jnp.asarray(a, wide) for a in (mean, var, scale, bias))
    return ((x.astype(wide) - mean) * (scale * lax.rsqrt(var + epsilon)) + bias).astype(x.dtype)
