"""The targets of readouts: the same map for every image, or another one for each image."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from posjax.layers import Arrays
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


def per_image(tasks: Sequence[Task]) -> tuple[int, ...]:
    """The indices of the tasks that have a target for each image."""
    return tuple(i for i, task in enumerate(tasks) if task.control == IMAGE_SHUFFLED)


def task_maps(readout: Readout, tasks: Sequence[Task]) -> Float[np.ndarray, "r h w"]:
    """The maps of r tasks, those of `per_image` before they are shuffled."""
    return np.stack([task_map(task, readout.map_size) for task in tasks])


def image_targets(
    readout: Readout, tasks: Sequence[Task], rows: Int[np.ndarray, " n"]
) -> LowResTarget:
    """The targets of single training images: [n, o, h, w] and [n, o], o as `per_image` has it."""
    maps = [tasks[i].map for i in per_image(tasks)]
    targets = np.zeros((len(rows), len(maps), *readout.response_size), np.float32)
    constants = np.zeros((len(rows), len(maps)), np.float32)
    for i, row in enumerate(rows.tolist()):
        for j, name in enumerate(maps):
            targets[i, j], constants[i, j] = _image_target(readout, name, row % ORDERS)
    return LowResTarget(targets, constants)


# Cached, because seeds, epochs and encoders share the targets.
@functools.lru_cache(maxsize=8 * ORDERS)
def _image_target(readout: Readout, name: str, row: int) -> LowResTarget:
    values = task_map(Task(name), readout.map_size)
    target = np.empty_like(values)
    target.flat[image_permutation(values.size, TRAINING, row)] = values.flat
    return target_for(readout, target)


def merged(common: LowResTarget, images: LowResTarget, indices: Sequence[int]) -> LowResTarget:
    """The targets of r tasks for each of n images: [r, n, h, w] and [r, n].

    The tasks `indices` get the targets of `images` in place of the common ones.
    """
    n, index = images.constant.shape[0], np.asarray(indices, int)

    def merge(same: Arrays, different: Arrays) -> Array:
        repeated = jnp.repeat(jnp.asarray(same)[:, None], n, axis=1)
        return repeated.at[index].set(jnp.moveaxis(different, 1, 0))

    return LowResTarget(*map(merge, common, images))


def permutations_of(
    readout: Readout, tasks: Sequence[Task], rows: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "n m"]:
    """The order of the pixels in the target of each test image; without any per image, m is 0."""
    pixels = int(np.prod(readout.map_size)) if per_image(tasks) else 0
    orders = [image_permutation(pixels, TESTING, row) for row in rows.tolist()]
    return np.array(orders, np.int32).reshape(len(rows), pixels)


def put_back(
    predictions: Float[Array, "n h w"], permutations: Int[Array, "n m"]
) -> Float[Array, "n h w"]:
    """Brings predictions back to the order of the map, where their scores are the same."""
    flat = predictions.reshape(permutations.shape)
    return jnp.take_along_axis(flat, permutations, axis=1).reshape(predictions.shape)
