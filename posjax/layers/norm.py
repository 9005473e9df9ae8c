"""Batch normalisation as PyTorch does it, over ragged batches and several devices."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from posjax.layers.arrays import Arrays


class BatchNorm(nn.Module):
    """`torch.nn.BatchNorm2d`: ε 1e-5, running momentum 0.1, unbiased running variance.

    `flax.linen.BatchNorm` keeps the biased variance. In training, rows with mask 0 do not count,
    and the statistics are taken over all devices of `axis_name`. Parameters `scale`, `bias`;
    batch_stats `mean`, `var`. Statistics are computed in float32 or wider.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(
        self,
        x: Float[Arrays, "n h w c"],
        *,
        train: bool = False,
        mask: Float[Array, " n"] | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "n h w c"]:
        """Normalises each channel by its running (or, in training, its batch) statistics."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if train:
            used_mean, used_var, count = _batch_statistics(x, mask, axis_name)
            if not self.is_initializing():
                unbiased = used_var * count / jnp.maximum(count - 1, 1)
                mean.value += self.momentum * (used_mean - mean.value)
                var.value += self.momentum * (unbiased - var.value)
        else:
            used_mean, used_var = mean.value, var.value
        wide = _at_least_float32(x)
        y = (wide - used_mean) * (scale * lax.rsqrt(used_var + self.epsilon)) + bias
        return y.astype(x.dtype)


def _batch_statistics(
    x: Arrays, mask: Array | None, axis_name: str | None
) -> tuple[Array, Array, Array]:
    """Mean, biased variance and number of pixels, over the rows with mask 1 of all devices."""
    x = _at_least_float32(x)
    n, height, width, _ = x.shape
    weight = jnp.ones(n, x.dtype) if mask is None else jnp.asarray(mask, x.dtype)

    def total(values: Array) -> Array:
        return values if axis_name is None else lax.psum(values, axis_name)

    count = total(jnp.sum(weight) * height * width)
    weight = weight[:, None, None, None]
    mean = total(jnp.sum(x * weight, axis=(0, 1, 2))) / count
    var = total(jnp.sum(jnp.square(x - mean) * weight, axis=(0, 1, 2))) / count
    return mean, var, count


def _at_least_float32(x: Arrays) -> Array:
    return jnp.asarray(x, jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
