"""Programs and the TPU's compiler: for a process of its own, whose environment it changes."""

import functools
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from experiments.benchmarks import programs
from experiments.benchmarks.estimates import estimate, products
from experiments.benchmarks.sections import DATA
from posjax import encoders, training
from posjax.probes import LinearReadout, Readout
from posjax.training.classification import CrossEntropy

CLASSES = 1000
ENVIRONMENT = {
    # What libtpu would ask the machine that it runs in.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # Another program may hold a TPU, or compile for one.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@functools.cache
def _devices() -> Sequence[Any]:
    os.environ |= ENVIRONMENT
    jax.config.update("jax_platforms", "cpu")
    # What was compiled before would take no seconds.
    jax.config.update("jax_enable_compilation_cache", False)
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices


def compiled(program: str, devices: int = 1, **sizes: Any) -> dict[str, Any]:
    """Compiles a program for some devices: its cycles, products, memory, and seconds to compile.

    `endless` loops of unknown length count once; `missing` counts operations without an estimate.
    `flops` are those of products. `memory` is in bytes.
    """
    chosen = _devices()[:devices]
    step, arguments = _program(program, devices, **sizes).on(chosen)
    lowered = step.lower(*arguments)
    start = time.perf_counter()
    executable = lowered.compile()
    seconds = time.perf_counter() - start
    cost, memory = estimate(executable.as_text()), executable.memory_analysis()
    kinds = ("argument", "output", "temp", "alias")
    return {
        "cycles": cost.cycles,
        "endless": cost.endless,
        "missing": dict(cost.missing),
        "flops": products(jax.make_jaxpr(step)(*arguments)),
        "memory": {kind: getattr(memory, f"{kind}_size_in_bytes") for kind in kinds},
        "compile_seconds": seconds,
    }


def _program(
    name: str, devices: int, encoder: str, batch: int, size: int, **others: Any
) -> programs.Program:
    """A program for each of the devices, which share out the images of a batch."""
    if name == "encode":
        # Without a padding in words, the modes are an argument.
        padding = None if others["padding"] == DATA else others["padding"]
        return programs.encode(encoder, padding, others["dtype"], batch // devices, size, "tpu")
    if name == "train_network":
        settings = training.OptimizerSettings()
        network = encoders.create(encoder, num_classes=CLASSES, dtype=jnp.dtype(settings.dtype))
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
        return programs.train_network(CrossEntropy(network), labels, size, settings)
    stages = programs.stages_of(encoder, batch, size)
    if name == "sum_products":
        return programs.sum_products(LinearReadout(map_size=(size, size)), stages)
    make = {"train_readouts": programs.train_readouts, "score_readouts": programs.score_readouts}
    return make[name](Readout(map_size=(size, size)), stages, others["count"])
