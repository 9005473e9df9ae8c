"""What a grid of readouts is to draw: the same map for every image, or one of each image's own."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from posjax.probes import Readout
from posjax.probes.controls import (
    IMAGE_SHUFFLED,
    ORDERS,
    TESTING,
    TRAINING,
    Task,
    image_permutation,
    task_map,
)
from posjax.probes.trainer import Target, target_for


def per_image(tasks: Sequence[Task]) -> list[int]:
    """Which tasks have a target of each image's own."""
    return [i for i, task in enumerate(tasks) if task.control == IMAGE_SHUFFLED]


def common_targets(readout: Readout, tasks: Sequence[Task]) -> Target:
    """The targets of r tasks as the loss needs them: [r, h, w] and [r]."""
    found = [_target(readout, task) for task in tasks]
    return Target(*(np.stack(parts) for parts in zip(*found, strict=True)))


def image_targets(readout: Readout, tasks: Sequence[Task], rows: Int[np.ndarray, " n"]) -> Target:
    """The targets of the training images `rows` where they have their own: [n, o, h, w], [n, o].

    o is the number of tasks that `per_image` names.
    """
    own = [tasks[i].map for i in per_image(tasks)]
    preimages = np.zeros((len(rows), len(own), *readout.response_size), np.float32)
    residuals = np.zeros((len(rows), len(own)), np.float32)
    for i, row in enumerate(rows.tolist()):
        for j, name in enumerate(own):
            preimages[i, j], residuals[i, j] = _image_target(readout, name, row % ORDERS)
    return Target(preimages, residuals)


def merged(common: Target, own: Target, where: Sequence[int]) -> Target:
    """The targets of r tasks for each of n images: [r, n, h, w] and [r, n]."""
    n = own.residual.shape[0]
    preimage, residual = (jnp.repeat(part[:, None], n, axis=1) for part in common)
    index = np.asarray(where, int)
    return Target(
        preimage.at[index].set(jnp.moveaxis(own.preimage, 1, 0)),
        residual.at[index].set(jnp.moveaxis(own.residual, 1, 0)),
    )


def permutations_of(
    readout: Readout, tasks: Sequence[Task], rows: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "n m"]:
    """The order of each test image's own targets; without columns where no task has any."""
    pixels = int(np.prod(readout.map_size)) if per_image(tasks) else 0
    orders = np.zeros((len(rows), pixels), np.int32)
    for order, row in zip(orders, rows.tolist(), strict=True):
        order[:] = image_permutation(pixels, TESTING, row)
    return orders


def put_back(
    predictions: Float[Array, "n h w"], permutations: Int[Array, "n m"]
) -> Float[Array, "n h w"]:
    """The predictions in the order of the map: scored there as in the order of their targets."""
    flat = predictions.reshape(permutations.shape)
    return jnp.take_along_axis(flat, permutations, axis=1).reshape(predictions.shape)


# Cached, because grids of several encoders, seeds and epochs ask for the same ones.
@functools.lru_cache(maxsize=256)
def _target(readout: Readout, task: Task) -> Target:
    return Target(*map(np.asarray, target_for(readout, task_map(task, readout.map_size))))


@functools.lru_cache(maxsize=8 * ORDERS)
def _image_target(readout: Readout, name: str, row: int) -> Target:
    values = task_map(Task(name), readout.map_size)
    target = np.empty(values.size, np.float32)
    target[image_permutation(values.size, TRAINING, row)] = values.ravel()
    return Target(*map(np.asarray, target_for(readout, target.reshape(values.shape))))
