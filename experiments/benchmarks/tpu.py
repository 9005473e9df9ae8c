"""What the TPU's compiler makes of a run's programs, on a machine without a TPU.

libtpu brings the compiler. Nothing runs: times are its estimates, and seconds to compile those of
this machine's processor.
"""

import functools
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from experiments.benchmarks import programs
from experiments.benchmarks.estimates import CYCLES, ENDLESS, estimate, products
from experiments.benchmarks.sizes import DATA, Bench, Sizes
from experiments.benchmarks.tables import Row, program_row
from experiments.benchmarks.workers import Worker
from posjax import encoders, training
from posjax.probes import Readout
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


def tpu_programs(bench: Bench) -> Iterator[Row]:
    """What a run compiles: encoding, readouts, scores, ridge and a network's training."""
    cycles: dict[str, int] = {}
    with Worker("experiments.benchmarks.tpu") as worker:
        for name, program, sizes, over in _cases(bench.sizes):
            compiled = worker.call("compiled", program=program, **sizes)
            cycles[name] = compiled["cycles"]
            ratio = compiled["cycles"] / cycles[over] if over else None
            yield program_row(name, sizes, compiled | {"over": over, "ratio": ratio})


def _cases(s: Sizes) -> Iterator[tuple[str, str, dict[str, Any], str | None]]:
    """Name, program, its sizes, and the name of what it is compared with."""
    common = {"batch": s.batch, "size": s.image_size}
    for encoder, dtype, paddings in s.compiled:
        zeros = f"encode {encoder} {dtype}, zeros"
        for padding in paddings:
            name = f"encode {encoder} {dtype}, {padding}"
            sizes = {"encoder": encoder, "dtype": dtype, "padding": padding, **common}
            yield name, "encode", sizes, None if name == zeros else zeros
    first = {"encoder": s.compiled[0][0], **common}
    of_four = {**first, "dtype": "bfloat16", "padding": DATA, "devices": 4}
    yield f"encode {first['encoder']} bfloat16, {DATA}, on 4", "encode", of_four, None
    for count in s.compiled_readouts:
        yield f"train {count} readouts", "train_readouts", first | {"count": count}, None
    count = s.compiled_readouts[0]
    yield f"score {count} readouts", "score_readouts", first | {"count": count}, None
    yield "sum products (ridge)", "sum_products", first, None
    sizes = {"encoder": s.compiled_training, **common}
    yield f"train {s.compiled_training}", "train_network", sizes, None


@functools.cache
def _devices() -> Sequence[Any]:
    os.environ |= ENVIRONMENT
    jax.config.update("jax_platforms", "cpu")
    # What was compiled before would take no seconds.
    jax.config.update("jax_enable_compilation_cache", False)
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices


def compiled(program: str, devices: int = 1, **sizes: Any) -> dict[str, Any]:
    """A program's cycles, products, memory and seconds to compile; for a process of its worker.

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
        "cycles": cost.pop(CYCLES, 0),
        "endless": cost.pop(ENDLESS, 0),
        "missing": dict(cost),
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
        return programs.sum_products(Readout(map_size=(size, size), linear=True), stages)
    make = {"train_readouts": programs.train_readouts, "score_readouts": programs.score_readouts}
    return make[name](Readout(map_size=(size, size)), stages, others["count"])
