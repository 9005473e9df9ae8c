"""Training of readouts by stochastic gradient descent, as the released PyTorch code does it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from posjax.layers import Arrays
from posjax.probes.readout import Aligned, Readout, Stages

Variables = dict[str, Any]


class LowResTarget(NamedTuple):
    """Position maps at the size of the response, as the loss needs them: see `target_for`.

    `constant` is the error that no response can take away.
    """

    target: Float[Arrays, "*t h w"]
    constant: Float[Arrays, "*t"]


class State(NamedTuple):
    """All that training changes: a network's variables and the optimiser's state."""

    variables: Variables
    optimizer: optax.OptState


def fit(
    readout: Readout,
    variables: Variables,
    batches: Iterable[dict[str, Float[Arrays, "_ _ _ _"]]],
    target: Float[Arrays, "h w"],
    *,
    learning_rate: float | optax.Schedule = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> tuple[Variables, Float[np.ndarray, " steps"]]:
    """Trains one readout, one step for each batch of stages.

    Returns the trained variables and the loss of each step before its update: the mean squared
    error at the map's size.

    Raises:
        ValueError: the target does not have the readout's map size.
        FloatingPointError: a loss is not finite; says at which step and learning rate.
    """
    tx = optimizer(learning_rate, momentum, weight_decay)
    goal = target_for(readout, target)

    @jax.jit
    def step(state: State, stages: Stages) -> tuple[State, Array]:
        return train_step(readout, tx, state, readout.align(stages), goal)

    state, losses = State(variables, tx.init(variables["params"])), []
    for stages in batches:
        state, loss = step(state, stages)
        losses.append(loss)
    losses = np.asarray(losses, np.float32)
    check_finite(losses[:, None], [str(readout)], learning_rate)
    return state.variables, losses


def optimizer(
    learning_rate: float | optax.Schedule = 0.1, momentum: float = 0.9, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """`torch.optim.SGD`: momentum, and weight decay added to the gradient of all parameters."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=momentum)
    )


def step_decay(learning_rate: float, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate, divided by ten after two thirds of the epochs."""
    boundary = (2 * epochs // 3) * steps_per_epoch
    first, then = map(optax.constant_schedule, (learning_rate, learning_rate / 10))
    return optax.join_schedules([first, then], [boundary]) if boundary else first


def target_for(readout: Readout, target: Float[Arrays, "*t h2 w2"]) -> LowResTarget:
    """Prepares position maps for the loss, in float64.

    The readout's last step is a linear upsampling U. With the QR decomposition U / √pixels = Q R,
    the mean squared error to a target t is exactly |R p - Qᵀt|² + |t|² / pixels - |Qᵀt|²: only the
    first term depends on the response p, and it is as small as p is.

    Raises:
        ValueError: a target does not have the readout's map size.
    """
    target = np.asarray(target, np.float64)
    size = target.shape[-2:]
    if size != tuple(readout.map_size):
        raise ValueError(f"the target is {size}, the readout predicts {readout.map_size}")
    scaled = target / np.sqrt(size[0] * size[1])
    (rows, _), (columns, _) = readout.upsampling_factors()
    whitened = rows.T @ scaled @ columns
    constant = np.sum(scaled**2, axis=(-2, -1)) - np.sum(whitened**2, axis=(-2, -1))
    return LowResTarget(whitened, constant)


def squared_error(
    readout: Readout, response: Float[Array, "n h w"], target: LowResTarget
) -> Float[Array, " n"]:
    """Mean squared error per image at the map's size, computed at the response's size."""
    goal, constant = (jnp.asarray(part, response.dtype) for part in target)
    rows, columns = (jnp.asarray(r, response.dtype) for _, r in readout.upsampling_factors())
    whitened = jnp.einsum(
        "ai,nij,bj->nab", rows, response, columns, precision=lax.Precision.HIGHEST
    )
    return jnp.sum(jnp.square(whitened - goal), axis=(1, 2)) + constant


def train_step(
    readout: Readout,
    tx: optax.GradientTransformation,
    state: State,
    features: Aligned,
    target: LowResTarget,
    mask: Float[Array, " n"] | None = None,
    axis_name: str | None = None,
) -> tuple[State, Float[Array, ""]]:
    """One step on aligned features: the next state, and the loss before it.

    Rows with mask 0 do not count. Under `axis_name`, gradients, BatchNorm statistics and the loss
    are those of the batch of all devices. `jax.vmap` over `state` and `target` trains many
    readouts on one batch of features.
    """
    mask = jnp.ones(features[0].shape[0], jnp.float32) if mask is None else mask

    def total(tree: Any) -> Any:
        return tree if axis_name is None else lax.psum(tree, axis_name)

    count = total(jnp.sum(mask))

    def share_of_loss(params: Any) -> tuple[Array, Any]:
        response, updated = readout.apply(
            {**state.variables, "params": params},
            features,
            train=True,
            mask=mask,
            axis_name=axis_name,
            method="respond",
            mutable=["batch_stats"],
        )
        return jnp.sum(squared_error(readout, response, target) * mask) / count, updated

    params = state.variables["params"]
    (share, updated), gradients = jax.value_and_grad(share_of_loss, has_aux=True)(params)
    changes, opt_state = tx.update(total(gradients), state.optimizer, params)
    variables = {"params": optax.apply_updates(params, changes), **updated}
    return State(variables, opt_state), total(share)


def check_finite(
    losses: Float[np.ndarray, "steps readouts"],
    names: Sequence[str],
    learning_rate: float | optax.Schedule,
    first_step: int = 0,
) -> None:
    """Raises FloatingPointError with the first readout, step and learning rate that went wrong."""
    wrong = np.argwhere(~np.isfinite(losses))
    if len(wrong):
        step, readout = wrong[0]
        step_number = first_step + int(step)
        rate = learning_rate(step_number) if callable(learning_rate) else learning_rate
        rate = float(np.asarray(rate))
        raise FloatingPointError(
            f"the loss of readout {names[readout]} is {losses[step, readout]} at step "
            f"{step_number} with learning rate {rate:g}: lower the learning rate, or look "
            "for features that are not finite"
        )
