"""What the TPU's compiler makes of a run's programs, on a machine without a TPU.

libtpu brings the compiler. Nothing runs: times are its estimates, and seconds to compile those of
this machine's processor.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from experiments.benchmarks import programs
from experiments.benchmarks.estimates import CYCLES, ENDLESS, estimate, products
from experiments.benchmarks.sizes import DATA, Sizes
from experiments.benchmarks.timing import Row, new_process
from posjax import encoders, training
from posjax.probes import LinearReadout, Readout
from posjax.training.classification import CrossEntropy

CLASSES = 1000
CLOCK = 1.5e9  # of a TPU v5e, hertz
PEAK = 197e12  # its bfloat16 multiplications and additions in a second
ENVIRONMENT = {
    # What libtpu would ask the machine that it runs in.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # Another program may hold a TPU, or compile for one.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def tpu_programs(sizes: Sizes) -> Iterator[Row]:
    """What a run compiles: encoding, readouts, scores, ridge and a network's training."""
    cycles: dict[str, int] = {}
    with new_process() as process:
        process.submit(_prepare).result()
        for name in _programs(sizes):
            compiled = process.submit(_compile, name, sizes).result()
            cycles[name] = compiled["cycles"]
            zeros = cycles.get(f"{name.partition(',')[0]}, zeros")
            ratio = cycles[name] / zeros if zeros and not name.endswith(", zeros") else None
            yield program_row(name, compiled | {"ratio": ratio})


def program_row(name: str, compiled: dict[str, Any]) -> Row:
    """A compiled program with its milliseconds, its part of the peak, and its bytes of memory."""
    memory, seconds = compiled["memory"], compiled["cycles"] / CLOCK
    # Results in the place of arguments count once.
    used = memory["argument"] + memory["output"] + memory["temp"] - memory["alias"]
    speed = {"milliseconds": 1e3 * seconds, "part_of_peak": compiled["flops"] / seconds / PEAK}
    return {"name": name, **compiled, **speed, "hbm_bytes": used}


def _programs(s: Sizes) -> dict[str, tuple[Callable[[], programs.Program], int]]:
    """What makes each program, and the number of its devices, which share out a batch."""
    first, readout = s.compiled[0][0], Readout(map_size=(s.image_size, s.image_size))
    linear = LinearReadout(map_size=readout.map_size)

    def encode(encoder: str, dtype: str, padding: str, devices: int = 1) -> tuple[Callable, int]:
        mode, batch = None if padding == DATA else padding, s.batch // devices
        arguments = (encoder, mode, dtype, batch, s.image_size, "tpu")
        return lambda: programs.encode(*arguments), devices

    def fit(make: Callable, readout: Readout, *counts: int) -> tuple[Callable, int]:
        return lambda: make(readout, programs.stages_of(first, s.batch, s.image_size), *counts), 1

    def train() -> programs.Program:
        settings = training.OptimizerSettings()
        dtype = jnp.dtype(settings.dtype)
        network = encoders.create(s.compiled_training, num_classes=CLASSES, dtype=dtype)
        labels = jax.ShapeDtypeStruct((s.batch,), jnp.int32)
        return programs.train_network(CrossEntropy(network), labels, s.image_size, settings)

    makers = {
        f"encode {encoder} {dtype}, {padding}": encode(encoder, dtype, padding)
        for encoder, dtype, paddings in s.compiled
        for padding in paddings
    }
    makers[f"encode {first} bfloat16 on 4, {DATA}"] = encode(first, "bfloat16", DATA, 4)
    for count in s.compiled_readouts:
        makers[f"train {count} readouts"] = fit(programs.train_readouts, readout, count)
    count = s.compiled_readouts[0]
    makers[f"score {count} readouts"] = fit(programs.score_readouts, readout, count)
    makers["sum products (ridge)"] = fit(programs.sum_products, linear)
    makers[f"train {s.compiled_training}"] = train, 1
    return makers


def _prepare() -> None:
    os.environ |= ENVIRONMENT
    jax.config.update("jax_platforms", "cpu")
    # What was compiled before would take no seconds.
    jax.config.update("jax_enable_compilation_cache", False)


def _compile(name: str, sizes: Sizes) -> dict[str, Any]:
    """A program's cycles, products, memory in bytes, and seconds to compile.

    `endless` loops of unknown length count once; `missing` counts operations without an estimate.
    """
    make, count = _programs(sizes)[name]
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    step, arguments = make().on(topology.devices[:count])
    lowered = step.lower(*arguments)
    start = time.perf_counter()
    executable = lowered.compile()
    seconds = time.perf_counter() - start
    cost, memory = estimate(executable.as_text()), executable.memory_analysis()
    return {
        "devices": count,
        "cycles": cost.pop(CYCLES, 0),
        "endless": cost.pop(ENDLESS, 0),
        "missing": dict(cost),
        "flops": products(jax.make_jaxpr(step)(*arguments)),
        "memory": {
            kind: getattr(memory, f"{kind}_size_in_bytes")
            for kind in ("argument", "output", "temp", "alias")
        },
        "compile_seconds": seconds,
    }
