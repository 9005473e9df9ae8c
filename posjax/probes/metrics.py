"""How well a predicted position map agrees with the true one, per image."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from posjax.layers import Arrays

# A prediction that varies by no more than this, relative to its largest value, is constant: its
# order is that of rounding errors. Features of a constant image that should be equal differ by
# about ten rounding steps of float32 (strided convolutions on a CPU); the BatchNorm of a readout
# can make a hundred times as many of them.
ROUNDING = 1024 * float(jnp.finfo(jnp.float32).eps)


def rounding_of(step: float) -> float:
    """How much predictions vary by rounding alone, relative to their largest value.

    `step` is the rounding step of the features' arithmetic: 2⁻²³ in float32, 2⁻⁷ in bfloat16.
    Coarse arithmetic rounds small differences away in every layer, so that features that should be
    equal are equal, or a whole step apart. With a hundredth of them apart, predictions vary by .004
    to .7 of a step (VGG-16, ResNet-18 and ResNet-20 under `circular`).
    """
    return max(ROUNDING, step)


@functools.partial(jax.jit, static_argnames="rounding")
def spc(
    prediction: Float[Arrays, "*n h w"],
    target: Float[Arrays, "h w"],
    rounding: float = ROUNDING,
) -> Float[Array, "*n"]:
    """Spearman correlation of each predicted map with the target, in [-1, 1].

    Equal to `scipy.stats.spearmanr` of the float32 values, ties with average ranks. NaN where it
    is undefined: the prediction varies by no more than `rounding` relative to its largest value
    (see `rounding_of`) or holds NaN, or the target is constant.
    """
    _check_shapes(prediction, target)
    goal = jnp.asarray(target, jnp.float32).reshape(1, -1)
    goal_ranks = _centred_ranks(goal[0])
    flat = jnp.asarray(prediction, jnp.float32).reshape(-1, goal.size)
    # Two images at a time: XLA sorts two arrays in parallel on a CPU, and ranking a whole batch at
    # once would need several times its memory.
    pairs = jnp.concatenate([flat, flat[: len(flat) % 2]]).reshape(-1, 2, goal.size)
    values = lax.map(
        lambda pair: jnp.stack([_correlation(_centred_ranks(p), goal_ranks) for p in pair]), pairs
    ).reshape(-1)[: len(flat)]
    undefined = constant(flat, rounding) | constant(goal, ROUNDING) | jnp.isnan(flat).any(axis=1)
    return jnp.where(undefined, jnp.nan, values).reshape(prediction.shape[:-2])


def mae(prediction: Float[Arrays, "*n h w"], target: Float[Arrays, "h w"]) -> Float[Array, "*n"]:
    """Mean absolute error of each predicted map, in the unit of the map."""
    _check_shapes(prediction, target)
    return jnp.mean(jnp.abs(prediction - target), axis=(-2, -1))


def _check_shapes(prediction: Arrays, target: Arrays) -> None:
    if prediction.shape[-2:] != target.shape:
        raise ValueError(f"predictions are {prediction.shape}, the target is {target.shape}")


@jax.jit
def constant_mae(target: Float[Arrays, "h w"]) -> Float[Array, ""]:
    """The MAE of the best constant prediction: that of the map's median."""
    return jnp.mean(jnp.abs(target - jnp.median(target)))


def _centred_ranks(values: Float[Array, " m"]) -> Float[Array, " m"]:
    """Average ranks less their mean, over m: in [-1/2, 1/2].

    Centred, because a correlation of raw ranks loses six digits in float32. Sorted as integers in
    the order of the floats, which XLA sorts four times as fast on the CPU.
    """
    # XLA would leave out `values + 0.0`, and −0 is no tie with 0 as an integer.
    bits = lax.bitcast_convert_type(jnp.where(values == 0, 0.0, values), jnp.int32)
    keys = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    in_order = jnp.sort(keys, stable=False)
    is_last = jnp.append(in_order[1:] != in_order[:-1], True)
    counts = jnp.where(is_last, jnp.arange(1, values.size + 1), values.size)
    up_to = lax.cummin(counts, reverse=True)  # how many are no larger, in the order of the sort
    below = jnp.searchsorted(in_order, keys, side="left")
    return (below + up_to[below] - values.size).astype(jnp.float32) / (2 * values.size)


def _correlation(a: Float[Array, " m"], b: Float[Array, " m"]) -> Float[Array, ""]:
    return _dot(a, b) / jnp.sqrt(_dot(a, a) * _dot(b, b))


def _dot(a: Float[Array, " m"], b: Float[Array, " m"]) -> Float[Array, ""]:
    # In two steps: a running float32 sum over a whole map would lose the sixth digit.
    side = int(a.size**0.5)
    product = a * b
    square, rest = product[: side * side].reshape(side, side), product[side * side :]
    return jnp.sum(jnp.sum(square, axis=1)) + jnp.sum(rest)


def constant(values: Float[Array, "*n m"], rounding: float) -> Bool[Array, "*n"]:
    """Whether values vary by no more than `rounding` relative to the largest of them."""
    spread = jnp.max(values, axis=-1) - jnp.min(values, axis=-1)
    return spread <= rounding * jnp.max(jnp.abs(values), axis=-1)
