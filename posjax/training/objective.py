"""What a network learns: one step of training it on an objective, and of its evaluation."""

from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

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
from posjax.training.augment import Windows, central, crop, draw_windows

Measures = dict[str, Float[Array, "n ..."]]
"""By name: a number for each image, or a row of numbers."""


@runtime_checkable
class Objective(Protocol):
    """What a network learns: its loss, and what is measured of its answers.

    Compiled steps are cached by their objective: it is hashable, and equal to any other with the
    same content.
    """

    @property
    def module(self) -> nn.Module:
        """`apply(variables, images, train=…, method="logits")` gives its answers.

        It has a field `axis_name`: in training, BatchNorm's statistics are of all its devices.
        """
        ...

    @property
    def smoothing(self) -> float:
        """Label smoothing of the loss in training."""
        ...

    @property
    def trained(self) -> tuple[str, ...]:
        """`loss` and the measures that are one number an image: averaged over each epoch."""
        ...

    @property
    def tested(self) -> tuple[str, ...]:
        """The names in `summary`."""
        ...

    def losses(self, logits: Array, targets: Array, smoothing: float = 0.0) -> Float[Array, " n"]:
        """The loss of each image."""
        ...

    def measures(self, logits: Array, targets: Array) -> Measures:
        """What is measured of each image, but for its loss."""
        ...

    def summary(self, measures: dict[str, np.ndarray]) -> dict[str, float]:
        """The figures of a set of images, from the measures of all of them and their losses."""
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


def evaluate_step(
    objective: Objective,
    variables: Variables,
    images: Float[Array, "n h w 3"],
    targets: Num[Array, "n ..."],
) -> Measures:
    """The loss, without label smoothing, and the measures of each image."""
    logits = cast(Array, objective.module.apply(variables, images, method="logits"))
    return {"loss": objective.losses(logits, targets), **objective.measures(logits, targets)}


def network_step(
    objective: Objective, tx: optax.GradientTransformation, margin: int, normalize: str
) -> Callable:
    """The step that trains a network on random windows of a batch, on one device of several.

    It maps (state, sums, images [n, h, w, 3], targets [n, …], seed, number) to the next state and
    the sums with those of this batch, see `train_step`; seed and the number of the step draw the
    windows and dropout. The windows are `margin` pixels smaller than the images, and normalised by
    the statistics that `normalize` names.
    """

    def train_network(
        state: State,
        sums: dict[str, Array],
        images: Num[Array, "n h w 3"],
        targets: Num[Array, "n ..."],
        seed: UInt[Array, ""],
        number: UInt[Array, ""],
    ) -> tuple[State, dict[str, Array]]:
        crops, dropout = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        dropout = jax.random.fold_in(dropout, lax.axis_index(runtime.BATCH_AXIS))
        seen = training_view(images, targets, crops, margin, normalize, runtime.BATCH_AXIS)
        state, more = train_step(objective, tx, state, *seen, dropout, runtime.BATCH_AXIS)
        return state, jax.tree.map(jnp.add, sums, more)

    return train_network


def evaluation_step(objective: Objective, margin: int, normalize: str) -> Callable:
    """The step that maps (variables, images, targets) to the loss and measures of each image.

    The images are seen as `network_step` sees them, but for the windows, which are the middle ones.
    """

    def evaluate_network(
        variables: Variables, images: Num[Array, "n h w 3"], targets: Num[Array, "n ..."]
    ) -> Measures:
        seen = evaluation_view(images, targets, margin, normalize)
        return evaluate_step(objective, variables, *seen)

    return evaluate_network


def training_view(
    images: Num[Array, "n h w 3"],
    targets: Num[Array, "n ..."],
    key: Key[Array, ""],
    margin: int,
    normalize: str,
    axis_name: str,
) -> tuple[Float[Array, "n h2 w2 3"], Num[Array, "n ..."]]:
    """Random windows of this device's images, normalised, and of targets that are masks.

    Windows are drawn for the images of all devices. An image has the same window, however many
    devices there are.
    """
    n = len(images)
    windows = draw_windows(key, n * lax.axis_size(axis_name), margin)
    first = n * lax.axis_index(axis_name)
    local = Windows(*(lax.dynamic_slice_in_dim(part, first, n) for part in windows))
    if targets.ndim == 3:
        targets = crop(targets[..., None], local, margin)[..., 0]
    return normalised(crop(images, local, margin), normalize), targets


def evaluation_view(
    images: Num[Array, "n h w 3"],
    targets: Num[Array, "n ..."],
    margin: int,
    normalize: str,
) -> tuple[Float[Array, "n h2 w2 3"], Num[Array, "n ..."]]:
    """The windows in the middle, normalised, and of targets that are masks."""
    if targets.ndim == 3:
        targets = central(targets[..., None], margin)[..., 0]
    return normalised(central(images, margin), normalize), targets
