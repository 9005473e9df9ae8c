"""Training of readouts by stochastic gradient descent, as the released PyTorch code does it."""

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from posjax.layers import Arrays, interpolation_matrix
from posjax.probes.readout import Aligned, Readout, Stages

Variables = dict[str, Any]


class LowResTarget(NamedTuple):
    """A position map as the loss needs it, at the size of the response: see `target_for`.

    `target` is what the response is compared with, `constant` the error that remains where both
    are equal.
    """

    target: Float[Arrays, "h w"]
    constant: Float[Arrays, ""]


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
        ValueError: the target has not the readout's map size.
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
    return optax.piecewise_constant_schedule(learning_rate, {boundary: 0.1} if boundary else None)


def target_for(readout: Readout, target: Float[Arrays, "h w"]) -> LowResTarget:
    """Prepares a position map for the loss.

    The readout's last step is a linear upsampling U, so with p* the least-squares preimage of the
    target t the squared error is exactly |U(p - p*)|² + |U p* - t|²: the first term needs only the
    small UᵀU, the second is a constant.

    Raises:
        ValueError: the target has not the readout's map size.
    """
    target = np.asarray(target, np.float64)
    if target.shape != tuple(readout.map_size):
        raise ValueError(f"the target is {target.shape}, the readout predicts {readout.map_size}")
    rows, columns = _upsampling(readout)
    inverse_rows, inverse_columns = _inverses(readout)
    low_res = inverse_rows @ target @ inverse_columns.T
    constant = np.mean((rows @ low_res @ columns.T - target) ** 2)
    return LowResTarget(jnp.asarray(low_res, jnp.float32), jnp.asarray(constant, jnp.float32))


def squared_error(
    readout: Readout, response: Float[Array, "n h w"], target: LowResTarget
) -> Float[Array, " n"]:
    """Mean squared error per image at the map's size, computed at the response's size."""
    rows, columns = (
        jnp.asarray(u.T @ u / u.shape[0], response.dtype) for u in _upsampling(readout)
    )
    difference = response - target.target
    product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    smoothed = product("hi,nij,jw->nhw", rows, difference, columns)
    return jnp.sum(smoothed * difference, axis=(1, 2)) + target.constant


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
    mask = jnp.ones(features[0].shape[0]) if mask is None else mask

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


def _upsampling(readout: Readout) -> tuple[np.ndarray, np.ndarray]:
    sizes = zip(readout.response_size, readout.map_size, strict=True)
    rows, columns = (interpolation_matrix(low, high, False) for low, high in sizes)
    return rows, columns


# Cached, because some readouts have a target for every image.
@cache
def _inverses(readout: Readout) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = map(np.linalg.pinv, _upsampling(readout))
    return rows, columns
