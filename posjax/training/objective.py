"""What a network learns: one step of training it on an objective, and of its evaluation."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Key, Num, UInt

from posjax import runtime
from posjax.encoders import normalised
from posjax.probes.trainer import State, Variables
from posjax.training.augment import central, random_windows

Measures = dict[str, Float[Array, "n ..."]]
"""By name: a number for each image, or a row of numbers."""


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """What a network learns: its loss, and what is measured of its answers.

    `module.apply(variables, images, train=…, method="logits")` gives the answers; its field
    `axis_name` joins BatchNorm's statistics of several devices. `smoothing` is that of the labels
    in training. `trained` names the loss and the measures that are averaged over each epoch,
    `tested` the figures of `summary`.
    """

    module: nn.Module
    smoothing: float = 0.0

    trained: ClassVar[tuple[str, ...]]
    tested: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def losses(self, logits: Array, targets: Array, smoothing: float = 0.0) -> Float[Array, " n"]:
        """The loss of each image."""
        ...

    @abc.abstractmethod
    def measures(self, logits: Array, targets: Array) -> Measures:
        """What is measured of each image beside its loss."""
        ...

    @abc.abstractmethod
    def summary(self, measures: dict[str, np.ndarray]) -> dict[str, float]:
        """The figures of a set of images, from their measures and losses."""
        ...


def train_step(
    objective: Objective,
    tx: optax.GradientTransformation,
    state: State,
    images: Float[Array, "n h w 3"],
    targets: Num[Array, "n ..."],
    dropout: Key[Array, ""],
    axis_name: str | None = None,
) -> tuple[State, dict[str, Array]]:
    """One step on normalised images: the next state, and sums over the batch before the step.

    The sums are `count`, the number of images, and those of the names in `objective.trained`.
    Under `axis_name`, each device has as many images; gradients, BatchNorm statistics and sums
    are those of the batch of all devices.
    """
    network = objective.module.clone(axis_name=axis_name)

    def mean_loss(params: Any) -> tuple[Array, Any]:
        logits, updated = network.apply(
            {**state.variables, "params": params},
            images,
            train=True,
            method="logits",
            mutable=["batch_stats"],
            rngs={"dropout": dropout},
        )
        losses = objective.losses(logits, targets, objective.smoothing)
        measured = objective.measures(logits, targets) | {"loss": losses}
        sums = {name: jnp.sum(measured[name]) for name in objective.trained}
        return jnp.mean(losses), (updated, sums | {"count": jnp.float32(len(losses))})

    params = state.variables["params"]
    gradients, (updated, sums) = jax.grad(mean_loss, has_aux=True)(params)
    if axis_name is not None:
        gradients, sums = lax.pmean(gradients, axis_name), lax.psum(sums, axis_name)
    changes, opt_state = tx.update(gradients, state.optimizer, params)
    variables = {"params": optax.apply_updates(params, changes), **updated}
    return State(variables, opt_state), sums


def network_step(
    objective: Objective, tx: optax.GradientTransformation, margin: int, normalize: str
) -> Callable:
    """The step that trains a network on random windows of a batch, on one device of several.

    It maps (state, sums, images, targets, seed, number) to the next state and the sums with those
    of this batch, see `train_step`; seed and the number of the step draw the windows and dropout.
    Windows are `margin` pixels smaller than images, and normalised as `normalize` says.
    """
    axis = runtime.BATCH_AXIS

    def train_network(
        state: State,
        sums: dict[str, Array],
        images: Num[Array, "n h w 3"],
        targets: Num[Array, "n ..."],
        seed: UInt[Array, ""],
        number: UInt[Array, ""],
    ) -> tuple[State, dict[str, Array]]:
        with runtime.drawing():
            key = jax.random.fold_in(runtime.random_key(seed), number)
            crops, dropout = jax.random.split(key)
            dropout = jax.random.fold_in(dropout, lax.axis_index(axis))
            images, targets = random_windows(images, targets, crops, margin, axis)
            seen = normalised(images, normalize)
            state, more = train_step(objective, tx, state, seen, targets, dropout, axis)
        return state, jax.tree.map(jnp.add, sums, more)

    return train_network


def evaluation_step(objective: Objective, margin: int, normalize: str) -> Callable:
    """The step that maps (variables, images, targets) to the loss and measures of each image.

    Images are seen as by `network_step`, in their middle windows. Labels are not smoothed.
    """

    def evaluate_network(
        variables: Variables, images: Num[Array, "n h w 3"], targets: Num[Array, "n ..."]
    ) -> Measures:
        seen = normalised(central(images, margin), normalize)
        targets = central(targets, margin) if targets.ndim == 3 else targets
        logits = cast(Array, objective.module.apply(variables, seen, method="logits"))
        return {"loss": objective.losses(logits, targets), **objective.measures(logits, targets)}

    return evaluate_network
