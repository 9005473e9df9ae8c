"""Data parallelism with `pmap`: batches are sharded over devices, variables are replicated."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Float

from posjax.runtime.compiler import compiler_options
from posjax.runtime.multihost import all_gather_object, check_same, hosts
from posjax.runtime.precision import check_jax

BATCH_AXIS = "devices"
"""The name of the mapped axis, for collectives."""


def local_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` local devices, or all of them for 0.

    Raises:
        ValueError: there are fewer; or as `check_jax`.
    """
    check_jax()
    devices = jax.local_devices()
    if count > len(devices):
        raise ValueError(
            f"devices must be {len(devices)} or less, the number of {devices[0].platform} devices "
            f"here; found {count}"
        )
    return devices[:count] if count else devices


def describe_devices(devices: Sequence[jax.Device]) -> str:
    """For people: "8 × cpu", "1 × NVIDIA H100 (gpu)", "2 hosts with 8 × cpu each"."""
    kind, platform = devices[0].device_kind, devices[0].platform
    text = f"{len(devices)} × {platform if kind == platform else f'{kind} ({platform})'}"
    return text if hosts() == 1 else f"{hosts()} hosts with {text} each"


def global_devices(devices: Sequence[jax.Device]) -> tuple[jax.Device, ...]:
    """The devices of all hosts, each of which calls this with its local devices and waits.

    Raises:
        ValueError: the hosts use different numbers of devices.
    """
    return tuple(devices) if hosts() == 1 else _connected(tuple(devices))


# Cached, because it connects the devices.
@functools.cache
def _connected(devices: tuple[jax.Device, ...]) -> tuple[jax.Device, ...]:
    check_same({"devices used": len(devices)})
    chosen = tuple(d for index in range(hosts()) for d in jax.local_devices(index)[: len(devices)])
    # The first collective on CPUs times out after 30 s: run one before anything slow is compiled.
    np.asarray(pmap(lambda x: jax.lax.psum(x, BATCH_AXIS), chosen)(np.ones(len(devices))))
    return chosen


def pmap(
    fn: Callable, devices: Sequence[jax.Device], *, donate_argnums: tuple[int, ...] = ()
) -> Callable:
    """`fn` on every device, with the axis name `BATCH_AXIS` for its collectives."""
    options = compiler_options(devices[0].platform)
    if not options or hosts() > 1:
        return jax.pmap(fn, axis_name=BATCH_AXIS, devices=devices, donate_argnums=donate_argnums)
    # `pmap` takes no compiler options, and within `jit` it cannot use the devices of other hosts.
    mapped = jax.pmap(fn, axis_name=BATCH_AXIS, devices=devices)
    return jax.jit(mapped, donate_argnums=donate_argnums, compiler_options=options)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of every array on every device, along a new leading axis."""
    # Under another name than pmap's axis, a step's output would differ in type from its first
    # input, and the step would be compiled twice.
    sharding = NamedSharding(Mesh(np.array(devices), (BATCH_AXIS,)), PartitionSpec(BATCH_AXIS))

    def copies(array: ArrayLike) -> jax.Array:
        stack = jnp.stack if isinstance(array, jax.Array) else np.stack
        return jax.device_put(stack([array] * len(devices)), sharding)

    return jax.tree.map(copies, tree)


def unreplicate(tree: Any) -> Any:
    """The first device's copy of replicated arrays, as numpy arrays."""

    def first(array: jax.Array) -> np.ndarray:
        return np.asarray(array.addressable_shards[0].data).reshape(array.shape[1:])

    return jax.tree.map(first, tree)


def sum_over_devices(tree: Any) -> Any:
    """The sums over all devices of all hosts of arrays [d, …], as numpy arrays in float64."""

    def add(array: jax.Array) -> np.ndarray:
        shards = (np.asarray(shard.data, np.float64) for shard in array.addressable_shards)
        return cast(np.ndarray, sum(shard.reshape(array.shape[1:]) for shard in shards))

    # Leaf by leaf, because every host receives the parts of all.
    return jax.tree.map(lambda array: sum(all_gather_object(add(array))), tree)


def shard_batch(
    batch: Any, batch_size: int, devices: Sequence[jax.Device]
) -> tuple[Any, Float[np.ndarray, "d b"]]:
    """Splits the rows of a batch over the devices, with a mask of the rows that count.

    Every array [n, …] becomes [d, b, …] with b = ⌈batch_size / d⌉, for every n up to `batch_size`.
    Rows of zeros with mask 0 fill up a smaller batch, which needs no compilation of its own.
    """
    per_device = math.ceil(batch_size / len(devices))
    rows = per_device * len(devices)

    def shard(array: np.ndarray) -> np.ndarray:
        if len(array) < rows:
            blank = np.zeros((rows - len(array), *array.shape[1:]), array.dtype)
            array = np.concatenate([array, blank])
        return array.reshape(len(devices), per_device, *array.shape[1:])

    count = len(jax.tree.leaves(batch)[0])
    return jax.tree.map(shard, batch), shard(np.ones(count, np.float32))


def unshard(tree: Any, count: int, axis: int = 0) -> Any:
    """The first `count` rows of arrays [d, …, b, …], as numpy arrays.

    `axis` is the position of b in the array of one device.
    """

    def rows(array: jax.Array) -> np.ndarray:
        # One device's rows are views of its memory: numpy copies bfloat16 slowly.
        parts = list(np.asarray(array))
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
        return joined[(slice(None),) * axis + (slice(count),)]

    return jax.tree.map(rows, tree)
