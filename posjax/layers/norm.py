"""Batch normalisation as PyTorch does it, over ragged batches and several devices."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float


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
        x: Float[ArrayLike, "n h w c"],
        *,
        train: bool = False,
        mask: Float[Array, " n"] | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "n h w c"]:
        """Normalises each channel by its running (or, in training, its batch) statistics."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        if train:
            used_mean, used_var, count = batch_statistics(x, mask=mask, axis_name=axis_name)
            if not self.is_initializing():
                unbiased = used_var * count / jnp.maximum(count - 1, 1)
                mean.value += self.momentum * (used_mean - mean.value)
                var.value += self.momentum * (unbiased - var.value)
        else:
            used_mean, used_var = mean.value, var.value
        wide = _at_least_float32(x)
        y = (wide - used_mean) * (scale * lax.rsqrt(used_var + self.epsilon)) + bias
        return y.astype(x.dtype)


def batch_statistics(
    x: Float[ArrayLike, "n h w c"],
    *,
    mask: Float[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
    """Mean, biased variance and the number of pixels, over the rows with mask 1.

    With `axis_name` the sums run over all devices of that axis, so that the statistics are those
    of the global batch.
    """
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


def _at_least_float32(x: ArrayLike) -> Array:
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
