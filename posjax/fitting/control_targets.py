"""The targets of readouts: the same map for every image, or another one for each image."""

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
from posjax.probes.trainer import LowResTarget, target_for


def per_image(tasks: Sequence[Task]) -> list[int]:
    """The indices of the tasks that have a target for each image."""
    return [i for i, task in enumerate(tasks) if task.control == IMAGE_SHUFFLED]


def common_targets(readout: Readout, tasks: Sequence[Task]) -> LowResTarget:
    """The targets of r tasks as the loss needs them: [r, h, w] and [r]."""
    targets = [_target(readout, task) for task in tasks]
    return LowResTarget(*(np.stack(parts) for parts in zip(*targets, strict=True)))


def image_targets(
    readout: Readout, tasks: Sequence[Task], rows: Int[np.ndarray, " n"]
) -> LowResTarget:
    """The targets of single training images: [n, o, h, w] and [n, o].

    o is the number of tasks that `per_image` names.
    """
    maps = [tasks[i].map for i in per_image(tasks)]
    low_res = np.zeros((len(rows), len(maps), *readout.response_size), np.float32)
    constants = np.zeros((len(rows), len(maps)), np.float32)
    for i, row in enumerate(rows.tolist()):
        for j, name in enumerate(maps):
            low_res[i, j], constants[i, j] = _image_target(readout, name, row % ORDERS)
    return LowResTarget(low_res, constants)


def merged(common: LowResTarget, images: LowResTarget, indices: Sequence[int]) -> LowResTarget:
    """The targets of r tasks for each of n images: [r, n, h, w] and [r, n].

    The tasks `indices` get the targets of `images` in place of the common ones.
    """
    n = images.constant.shape[0]
    target, constant = (jnp.repeat(part[:, None], n, axis=1) for part in common)
    index = np.asarray(indices, int)
    return LowResTarget(
        target.at[index].set(jnp.moveaxis(images.target, 1, 0)),
        constant.at[index].set(jnp.moveaxis(images.constant, 1, 0)),
    )


def permutations_of(
    readout: Readout, tasks: Sequence[Task], rows: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "n m"]:
    """The order of the pixels in the target of each test image.

    Without columns where no task has a target for each image.
    """
    pixels = int(np.prod(readout.map_size)) if per_image(tasks) else 0
    orders = np.zeros((len(rows), pixels), np.int32)
    for order, row in zip(orders, rows.tolist(), strict=True):
        order[:] = image_permutation(pixels, TESTING, row)
    return orders


def put_back(
    predictions: Float[Array, "n h w"], permutations: Int[Array, "n m"]
) -> Float[Array, "n h w"]:
    """Brings predictions back to the order of the map, where their scores are the same."""
    flat = predictions.reshape(permutations.shape)
    return jnp.take_along_axis(flat, permutations, axis=1).reshape(predictions.shape)


# Cached, because encoders, seeds and epochs share the targets.
@functools.lru_cache(maxsize=256)
def _target(readout: Readout, task: Task) -> LowResTarget:
    return LowResTarget(*map(np.asarray, target_for(readout, task_map(task, readout.map_size))))


@functools.lru_cache(maxsize=8 * ORDERS)
def _image_target(readout: Readout, name: str, row: int) -> LowResTarget:
    values = task_map(Task(name), readout.map_size)
    target = np.empty(values.size, np.float32)
    target[image_permutation(values.size, TRAINING, row)] = values.ravel()
    return LowResTarget(*map(np.asarray, target_for(readout, target.reshape(values.shape))))
