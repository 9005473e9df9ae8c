"""Several hosts: processes of one job under `jax.distributed`, each with devices of its own.

Image i belongs to host i % P of P hosts. There it has the local index i // P.
"""

import atexit
import contextlib
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int

AUTO = "auto"
HEARTBEAT_SECONDS = 60

T = TypeVar("T")


@contextlib.contextmanager
def distributed(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Iterator[None]:
    """Makes this process one of the hosts of a job for good. Without an address it stays alone.

    `coordinator_address` is HOST:PORT of process 0, or `auto` where the cluster knows all three
    (SLURM, Cloud TPU, Open MPI). The process waits five minutes for the other hosts.

    A host that fails within the block prints its error and ends with status 1. The others raise
    ConnectionError if they wait for it, or are aborted after `HEARTBEAT_SECONDS`.

    Raises:
        ValueError: the cluster is unknown, or the hosts have different numbers of devices.
        ConnectionError: another host has failed.
    """
    if coordinator_address is None:
        yield
        return
    _join(coordinator_address, num_processes, process_id)
    try:
        check_same({"local devices": len(jax.local_devices())})
        yield
        # At exit a host waits for the others, but not for as long as the first may still write.
        all_gather_object(None)
    except BaseException as error:
        atexit.register(_leave)
        # The collectives of a CPU raise either error when another host is gone.
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            raise ConnectionError(
                f"host {host()} of {hosts()} cannot go on, as when another host has stopped (see "
                f"what that one says): {error}"
            ) from error
        raise


def _join(address: str, num_processes: int | None, process_id: int | None) -> None:
    # The preemption service would catch a scheduler's SIGTERM. Not every version has the option.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            None if address == AUTO else address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"coordinator_address={address}, num_processes={num_processes}, "
            f"process_id={process_id}: {error}"
        ) from error


def _leave() -> None:
    # The exit of jax would wait for the other hosts, which wait for this one. When the first host
    # is gone they are aborted, and may have an error to print before.
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        time.sleep(2)
    os._exit(1)


def hosts() -> int:
    """The number of hosts, P."""
    return jax.process_count()


def host() -> int:
    """The index of this host, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this host is the one that writes and prints."""
    return host() == 0


def local_range(count: int) -> range:
    """The indices of this host's images among `count` images."""
    return range(host(), count, hosts())


def local_indices(images: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """The local indices of those images that belong to this host."""
    return images[images % hosts() == host()] // hosts()


def global_indices(local: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The indices among all images of this host's images: the inverse of `local_indices`."""
    return local * hosts() + host()


def gather_rows(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """The values of all images in order, on every host, from each host's values along `axis`."""
    if hosts() == 1:
        return values
    parts = [np.moveaxis(part, axis, 0) for part in all_gather_object(values)]
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), values.dtype)
    for first, part in enumerate(parts):
        whole[first :: hosts()] = part
    return np.moveaxis(whole, 0, axis)


def all_gather_object(value: T) -> list[T]:
    """Every host's value, on every host. Each host must call this, and waits for the others."""
    if hosts() == 1:
        return [value]
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.uint32(len(content)))
    gathered = multihost_utils.process_allgather(_padded(content, sizes.max()))
    return [pickle.loads(row[:n].tobytes()) for row, n in zip(gathered, sizes, strict=True)]


def broadcast_object(make: Callable[[], T]) -> T:
    """Calls `make` on the first host and returns its result on every host."""
    if hosts() == 1:
        return make()
    content = np.frombuffer(pickle.dumps(make()) if is_first() else b"", np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(len(content))))
    return pickle.loads(multihost_utils.broadcast_one_to_all(_padded(content, size))[:size])


def _padded(content: np.ndarray, size: int) -> np.ndarray:
    # A power of two: each length is compiled once.
    padded = np.zeros(1 << (int(size) - 1).bit_length(), np.uint8)
    padded[: len(content)] = content
    return padded


def check_same(values: Mapping[str, Any]) -> None:
    """Makes sure that all hosts have the same values.

    Raises:
        ValueError: they differ; gives the names, and the values of two hosts.
    """
    first, *others = all_gather_object(dict(values))
    different = {
        name: f"{name}: {first.get(name)!r} on host 0, {other.get(name)!r} on host {index}"
        for index, other in enumerate(others, 1)
        for name in sorted(first.keys() | other.keys())
        if first.get(name) != other.get(name)
    }
    if different:
        raise ValueError(f"the hosts do not run the same: {'; '.join(different.values())}")
