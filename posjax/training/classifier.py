"""One step of training an encoder with its classifier head, and of its evaluation."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, Num

from posjax.probes.trainer import State, Variables
from posjax.training.augment import Windows, as_floats, central, crop, draw_windows
from posjax.training.recipe import cross_entropy


class Totals(NamedTuple):
    """Sums over images: of the loss, of those classified right, and of all."""

    loss: Float[Array, ""]
    correct: Int[Array, ""]
    count: Int[Array, ""]


def train_step(
    encoder: nn.Module,
    tx: optax.GradientTransformation,
    smoothing: float,
    state: State,
    images: Float[Array, "n h w 3"],
    labels: Int[Array, " n"],
    dropout: Key[Array, ""],
    axis_name: str | None = None,
) -> tuple[State, Totals]:
    """One step on normalised images: the next state, and what the batch gave before it.

    Under `axis_name`, each device has as many images; gradients, BatchNorm statistics and totals
    are those of the batch of all devices.
    """
    encoder = encoder.clone(axis_name=axis_name)

    def mean_loss(params: Any) -> tuple[Array, Any]:
        logits, updated = encoder.apply(
            {**state.variables, "params": params},
            images,
            train=True,
            method="logits",
            mutable=["batch_stats"],
            rngs={"dropout": dropout},
        )
        losses = cross_entropy(logits, labels, smoothing)
        return jnp.mean(losses), (updated, _totals(losses, logits, labels, jnp.ones(len(labels))))

    params = state.variables["params"]
    gradients, (updated, totals) = jax.grad(mean_loss, has_aux=True)(params)
    if axis_name is not None:
        gradients, totals = lax.pmean(gradients, axis_name), lax.psum(totals, axis_name)
    changes, opt_state = tx.update(gradients, state.optimizer, params)
    variables = {"params": optax.apply_updates(params, changes), **updated}
    return State(variables, opt_state), totals


def evaluate_step(
    encoder: nn.Module,
    variables: Variables,
    images: Float[Array, "n h w 3"],
    labels: Int[Array, " n"],
    mask: Float[Array, " n"],
    axis_name: str | None = None,
) -> Totals:
    """The totals of a batch, over rows with mask 1, and over all devices of `axis_name`."""
    logits = encoder.apply(variables, images, method="logits")
    totals = _totals(cross_entropy(logits, labels, 0.0), logits, labels, mask)
    return totals if axis_name is None else lax.psum(totals, axis_name)


def training_view(
    images: Num[Array, "n h w 3"],
    key: Key[Array, ""],
    margin: int,
    statistics: tuple[Any, Any],
    axis_name: str,
) -> Float[Array, "n h2 w2 3"]:
    """Random windows of this device's images, normalised.

    They are drawn for the images of all devices, of which this one takes its own: the same for
    each image, however many devices there are.
    """
    n = len(images)
    every = draw_windows(key, n * lax.axis_size(axis_name), margin)
    first = n * lax.axis_index(axis_name)
    own = Windows(*(lax.dynamic_slice_in_dim(part, first, n) for part in every))
    mean, std = statistics
    return (as_floats(crop(images, own, margin)) - mean) / std


def evaluation_view(
    images: Num[Array, "n h w 3"], margin: int, statistics: tuple[Any, Any]
) -> Float[Array, "n h2 w2 3"]:
    """The windows in the middle, normalised."""
    mean, std = statistics
    return (as_floats(central(images, margin)) - mean) / std


def _totals(losses: Array, logits: Array, labels: Array, mask: Array) -> Totals:
    right = (jnp.argmax(logits, axis=-1) == labels) & (mask > 0)
    return Totals(
        jnp.sum(losses * mask), jnp.sum(right, dtype=jnp.int32), jnp.sum(mask > 0, dtype=jnp.int32)
    )
