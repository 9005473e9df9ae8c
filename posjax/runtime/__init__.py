"""Runtime: devices, hosts, checkpoints, files, locks and progress. The ground of every run."""

from posjax.runtime.checkpoints import Checkpoints
from posjax.runtime.devices import (
    BATCH_AXIS,
    describe_devices,
    global_devices,
    local_devices,
    pmap,
    replicate,
    shard_batch,
    sum_over_devices,
    unreplicate,
    unshard,
)
from posjax.runtime.files import encodable, replacing, write_atomically, write_rows, write_text
from posjax.runtime.locks import locked
from posjax.runtime.memory import Need, bytes_text, check_memory, memory_bytes
from posjax.runtime.multihost import (
    all_gather_object,
    broadcast_object,
    check_same,
    distributed,
    gather_rows,
    global_indices,
    host,
    hosts,
    is_first,
    local_indices,
    local_range,
)
from posjax.runtime.precision import arithmetic, check_jax, matmul_precision, rounding_step
from posjax.runtime.randomness import drawing, random_key
from posjax.runtime.stopping import stop_requests
from posjax.runtime.waits import Waits

__all__ = [
    "BATCH_AXIS",
    "Checkpoints",
    "Need",
    "Waits",
    "all_gather_object",
    "arithmetic",
    "broadcast_object",
    "bytes_text",
    "check_jax",
    "check_memory",
    "check_same",
    "describe_devices",
    "distributed",
    "drawing",
    "encodable",
    "gather_rows",
    "global_devices",
    "global_indices",
    "host",
    "hosts",
    "is_first",
    "local_devices",
    "local_indices",
    "local_range",
    "locked",
    "matmul_precision",
    "memory_bytes",
    "pmap",
    "random_key",
    "replacing",
    "replicate",
    "rounding_step",
    "shard_batch",
    "stop_requests",
    "sum_over_devices",
    "unreplicate",
    "unshard",
    "write_atomically",
    "write_rows",
    "write_text",
]
