"""Data parallelism: the only place that knows of `pmap`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import jax_utils
from jaxtyping import Float

AXIS = "devices"


def local_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` local devices, or all of them for 0.

    Raises:
        ValueError: there are fewer.
    """
    found = jax.local_devices()
    if count > len(found):
        raise ValueError(
            f"--devices asks for {count}, found {len(found)} of platform {found[0].platform}"
        )
    return found[:count] if count else found


def pmap(fn: Callable, devices: Sequence[jax.Device], **options: Any) -> Callable:
    """`fn` on every device, with the axis name `AXIS` for its collectives."""
    return jax.pmap(fn, axis_name=AXIS, devices=devices, **options)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of every array on every device, along a new leading axis."""
    return jax_utils.replicate(tree, devices)


def gather(tree: Any) -> Any:
    """The first device's copy of replicated arrays, as numpy arrays."""

    # flax's `unreplicate` keeps the axis of devices where one device of several is used.
    def first(array: jax.Array) -> np.ndarray:
        return np.asarray(array.addressable_shards[0].data).reshape(array.shape[1:])

    return jax.tree.map(first, tree)


def total(tree: Any) -> Any:
    """The sums over all devices of arrays that lie on them, as numpy arrays in float64."""

    def add(array: jax.Array) -> np.ndarray:
        added = np.zeros(array.shape[1:])
        for shard in array.addressable_shards:
            added += np.asarray(shard.data).reshape(added.shape)
        return added

    return jax.tree.map(add, tree)


def split(
    batch: Any, batch_size: int, devices: Sequence[jax.Device]
) -> tuple[Any, Float[np.ndarray, "d b"]]:
    """Deals the rows of a batch out to the devices, with a mask of the rows that count.

    Every array [n, …] becomes [d, b, …] with b = ⌈batch_size / d⌉ for every n up to `batch_size`:
    rows of zeros and mask 0 fill up a last, smaller batch, which therefore needs no compilation
    of its own.
    """
    per_device = math.ceil(batch_size / len(devices))
    rows = per_device * len(devices)

    def deal(array: np.ndarray) -> np.ndarray:
        dealt = np.zeros((rows, *array.shape[1:]), array.dtype)
        dealt[: len(array)] = array
        return dealt.reshape(len(devices), per_device, *array.shape[1:])

    count = len(jax.tree.leaves(batch)[0])
    return jax.tree.map(deal, batch), deal(np.ones(count, np.float32))


def join(tree: Any, count: int, axis: int = 0) -> Any:
    """The first `count` rows of arrays that lie on the devices as [d, …, b, …], as numpy.

    `axis` is where the rows stand on one device.
    """

    def rows(array: jax.Array) -> np.ndarray:
        joined = np.concatenate(list(np.asarray(array)), axis=axis)
        return joined.take(range(count), axis=axis)

    return jax.tree.map(rows, tree)
