"""Data parallelism: the only place that knows of `pmap`, and of several hosts.

A host is a process of a job under `jax.distributed`; without one there is a single host. Image i
is that of host i % P: it encodes it, and counts it as the (i // P)-th of its own.
"""

import atexit
import contextlib
import functools
import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from posjax.runs.xla import compiler_options

AXIS = "devices"
AUTO = "auto"
HEARTBEAT_SECONDS = 60

T = TypeVar("T")


@contextlib.contextmanager
def joined(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Iterator[None]:
    """Makes this process one of the hosts of a job for good; without an address it stays alone.

    `coordinator_address` is HOST:PORT of process 0, or `auto` where the cluster tells all three
    (SLURM, Cloud TPU, Open MPI). It waits five minutes for the other hosts.

    A host that fails within the block ends with status 1 as soon as its error is printed, and so
    makes the others fail: with ConnectionError at once where they wait for it, else by an abort
    of `jax.distributed` that says so, at most `HEARTBEAT_SECONDS` and some later.

    Raises:
        ValueError: the cluster is unknown, or hosts differ in their number of devices.
        ConnectionError: another host has failed.
    """
    if coordinator_address is None:
        yield
        return
    # The service, which some JAX cannot switch off, would catch a scheduler's SIGTERM.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            None if coordinator_address == AUTO else coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"--coordinator_address={coordinator_address}, --num_processes={num_processes}, "
            f"--process_id={process_id}: {error}"
        ) from error
    try:
        check_same({"local devices": len(jax.local_devices())})
        yield
        # At exit a host waits for the others, but not for as long as the first may still write.
        from_all(None)
    except BaseException as error:
        atexit.register(_leave)
        # What the collectives of a CPU raise is now the one, now a mere ValueError.
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            raise ConnectionError(
                f"host {host()} of {hosts()} cannot go on, as when another host has stopped (see "
                f"what that one says): {error}"
            ) from error
        raise


def _leave() -> None:
    # The exit of jax would wait for the other hosts, which wait for this one. They are aborted when
    # the first host is gone, and may be about to tell an error of their own.
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        time.sleep(2)
    os._exit(1)


def hosts() -> int:
    """The number of hosts, P."""
    return jax.process_count()


def host() -> int:
    """Which of the hosts this one is, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this host is the one that writes and prints."""
    return host() == 0


def share(count: int) -> range:
    """Which of `count` images are this host's."""
    return range(host(), count, hosts())


def own(images: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Those of the images that are this host's, by their place among its own."""
    return images[images % hosts() == host()] // hosts()


def numbers(places: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """Which images this host's own are, by their place among them: `own` the other way round."""
    return places * hosts() + host()


def collect(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Values of all images in order, on every host, from each host's of its own along `axis`."""
    if hosts() == 1:
        return values
    every = [np.moveaxis(part, axis, 0) for part in from_all(values)]
    whole = np.empty((sum(map(len, every)), *every[0].shape[1:]), values.dtype)
    for first, part in enumerate(every):
        whole[first :: hosts()] = part
    return np.moveaxis(whole, 0, axis)


def from_all(value: T) -> list[T]:
    """Every host's value, on every host; each of them must call this, and waits for the others."""
    if hosts() == 1:
        return [value]
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.uint32(len(content)))
    gathered = multihost_utils.process_allgather(_padded(content, sizes.max()))
    return [pickle.loads(row[:n].tobytes()) for row, n in zip(gathered, sizes, strict=True)]


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns on the first host, on every host; on the others it is not called."""
    if hosts() == 1:
        return make()
    content = np.frombuffer(pickle.dumps(make()) if is_first() else b"", np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(len(content))))
    return pickle.loads(multihost_utils.broadcast_one_to_all(_padded(content, size))[:size])


def _padded(content: np.ndarray, size: int) -> np.ndarray:
    # Few different lengths, for each is compiled.
    padded = np.zeros(1 << (int(size) - 1).bit_length(), np.uint8)
    padded[: len(content)] = content
    return padded


def check_same(values: Mapping[str, Any]) -> None:
    """Makes sure that all hosts have the same values.

    Raises:
        ValueError: they differ; tells the names, and the values of two hosts.
    """
    first, *others = from_all(dict(values))
    different = {}
    for index, other in enumerate(others, 1):
        for name in sorted(first.keys() | other.keys()):
            if first.get(name) != other.get(name):
                here, there = first.get(name), other.get(name)
                different.setdefault(name, f"{name}: {here!r} on host 0, {there!r} on host {index}")
    if different:
        raise ValueError(f"the hosts do not run the same: {'; '.join(different.values())}")


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


def everywhere(devices: Sequence[jax.Device]) -> tuple[jax.Device, ...]:
    """The devices of all hosts, each of which uses as many of its own as this one.

    Each host must call this with its own local devices; the first call waits for the others.

    Raises:
        ValueError: the hosts use different numbers of devices.
    """
    return tuple(devices) if hosts() == 1 else _connected(tuple(devices))


# Cached, because it connects the devices.
@functools.cache
def _connected(devices: tuple[jax.Device, ...]) -> tuple[jax.Device, ...]:
    check_same({"devices used": len(devices)})
    of_hosts = [[d for d in jax.devices() if d.process_index == p] for p in range(hosts())]
    chosen = tuple(d for found in of_hosts for d in found[: len(devices)])
    # Where devices of a CPU meet first, none may come half a minute late, as one may that compiles.
    np.asarray(pmap(lambda x: jax.lax.psum(x, AXIS), chosen)(np.ones(len(devices))))
    return chosen


def pmap(
    fn: Callable, devices: Sequence[jax.Device], *, donate_argnums: tuple[int, ...] = ()
) -> Callable:
    """`fn` on every device, with the axis name `AXIS` for its collectives."""
    options = compiler_options(devices[0].platform)
    if not options or hosts() > 1:
        return jax.pmap(fn, axis_name=AXIS, devices=devices, donate_argnums=donate_argnums)
    # `pmap` itself takes no compiler options, and inside of `jit` knows no other hosts.
    mapped = jax.pmap(fn, axis_name=AXIS, devices=devices)
    return jax.jit(mapped, donate_argnums=donate_argnums, compiler_options=options)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of every array on every device, along a new leading axis."""
    # Under another name of the axis, as flax's has it, what a step is given first and what it
    # returns would differ in type, and it would be compiled twice.
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))

    def copies(array: ArrayLike) -> jax.Array:
        stack = jnp.stack if isinstance(array, jax.Array) else np.stack
        return jax.device_put(stack([array] * len(devices)), sharding)

    return jax.tree.map(copies, tree)


def gather(tree: Any) -> Any:
    """The first device's copy of replicated arrays, as numpy arrays."""

    def first(array: jax.Array) -> np.ndarray:
        # flax's `unreplicate` keeps the axis of devices where one of several is used.
        return np.asarray(array.addressable_shards[0].data).reshape(array.shape[1:])

    return jax.tree.map(first, tree)


def total(tree: Any) -> Any:
    """The sums over all devices of all hosts of arrays that lie on them, numpy in float64."""

    def add(array: jax.Array) -> np.ndarray:
        shards = (np.asarray(shard.data, np.float64) for shard in array.addressable_shards)
        return sum(shard.reshape(array.shape[1:]) for shard in shards)

    # Leaf by leaf, for every host gets the parts of all.
    return jax.tree.map(lambda array: sum(from_all(add(array))), tree)


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
        dealt = array
        if len(array) < rows:
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
        # One device's rows are views of its memory: numpy copies bfloat16 slowly.
        parts = list(np.asarray(array))
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
        return joined[(slice(None),) * axis + (slice(count),)]

    return jax.tree.map(rows, tree)
