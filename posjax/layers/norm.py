"""Batch normalisation as PyTorch does it, over ragged batches and several devices."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

_MANY = 8  # channels


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
        weight = jnp.ones(x.shape[0]) if mask is None else mask
        # The closed form rounds differently, and is worth it for the wide maps of encoders.
        normalise = _normalise_batch if channels >= _MANY else _normalise_batch.__wrapped__
        y, statistics = normalise(x, scale, bias, weight, self.epsilon, axis_name)
        batch_mean, batch_var, count = lax.stop_gradient(statistics)
        if not self.is_initializing():
            unbiased = batch_var * count / jnp.maximum(count - 1, 1)
            mean.value += self.momentum * (batch_mean - mean.value)
            var.value += self.momentum * (unbiased - var.value)
        return y


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
    x = _wide(x)
    weight = _rows(jnp.ones(x.shape[0]) if mask is None else mask, x)
    count = _total(jnp.sum(weight) * x.shape[1] * x.shape[2], axis_name)
    mean = _total(_sum(x * weight), axis_name) / count
    var = _total(_sum(jnp.square(x - mean) * weight), axis_name) / count
    return mean, var, count


# The gradient in closed form, two sums over the batch, is faster than that of the sums above. There
# is none forwards (`jax.jvp`).
@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _normalise_batch(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike,
    epsilon: float,
    axis_name: str | None,
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The batch normalised by its own statistics, and these, which pass no gradient on."""
    statistics = batch_statistics(x, mask=weight, axis_name=axis_name)
    return _normalise(x, *statistics[:2], scale, bias, epsilon), statistics


def _forward(*arguments: Any) -> tuple[Any, Any]:
    found = _normalise_batch(*arguments)
    return found, (*arguments[:4], *found[1])


def _backward(epsilon: float, axis_name: str | None, kept: Any, cotangents: Any) -> tuple:
    x, scale, bias, weight, mean, var, count = kept
    dy = _wide(cotangents[0])
    inverse = lax.rsqrt(var + epsilon)
    normal = (_wide(x) - mean) * inverse
    along_bias, along_scale = _sum(dy), _sum(dy * normal)
    # What moves the statistics, moves all images of all devices.
    shift, stretch = (_total(s, axis_name) / count for s in (along_bias, along_scale))
    dx = scale * inverse * (dy - _rows(weight, x) * (shift + normal * stretch))
    return (
        dx.astype(x.dtype),
        along_scale.astype(scale.dtype),
        along_bias.astype(bias.dtype),
        jnp.zeros_like(weight),
    )


_normalise_batch.defvjp(_forward, _backward)


def _wide(x: ArrayLike) -> Array:
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def _rows(weight: ArrayLike, x: ArrayLike) -> Array:
    return jnp.asarray(weight, jnp.promote_types(x.dtype, jnp.float32))[:, None, None, None]


def _sum(x: Float[Array, "n h w c"]) -> Float[Array, " c"]:
    n, h, w, c = x.shape
    if c < _MANY:
        return jnp.sum(x, axis=(0, 1, 2))
    # In two steps: XLA's CPU backend adds up long rows several times as fast as many channels.
    return jnp.sum(jnp.sum(x.reshape(n * h, w * c), axis=0).reshape(w, c), axis=0)


def _total(x: Array, axis_name: str | None) -> Array:
    return x if axis_name is None else lax.psum(x, axis_name)


def _normalise(
    x: ArrayLike, mean: ArrayLike, var: ArrayLike, scale: ArrayLike, bias: ArrayLike, epsilon: float
) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    mean, var, scale, bias = (jnp.asarray(a, wide) for a in (mean, var, scale, bias))
    return ((jnp.asarray(x, wide) - mean) * (scale * lax.rsqrt(var + epsilon)) + bias).astype(
        x.dtype
    )
