"""Programs and the TPU's compiler: a process of its own, with the environment of `tpu`.

Each function compiles one program and returns what `tpu.Compiled` has of it.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from experiments.benchmarks import programs
from experiments.benchmarks.estimates import estimate, products
from experiments.benchmarks.rows import DATA
from posjax import encoders, training
from posjax.probes import LinearReadout, Readout

TOPOLOGY = "v5e:2x2"
CLASSES = 1000

Figures = dict[str, Any]


def encode(
    encoder: str, dtype: str, padding: str, batch: int, size: int, devices: int = 1
) -> Figures:
    """Encoding under a padding in words, or with the modes as an argument.

    The images of a batch are shared out to the devices.
    """
    words = None if padding == DATA else padding
    program = programs.encode(encoder, words, dtype, batch // devices, size, "tpu")
    return _compiled(program, devices)


def train_readouts(encoder: str, batch: int, size: int, count: int) -> Figures:
    """A training step of `count` readouts on the stages of an encoder."""
    stages = programs.stages_of(encoder, batch, size)
    return _compiled(programs.train_readouts(Readout(map_size=(size, size)), stages, count))


def score_readouts(encoder: str, batch: int, size: int, count: int) -> Figures:
    """The scores of `count` readouts on the stages of an encoder."""
    stages = programs.stages_of(encoder, batch, size)
    return _compiled(programs.score_readouts(Readout(map_size=(size, size)), stages, count))


def sum_products(encoder: str, batch: int, size: int) -> Figures:
    """The sums of ridge on the stages of an encoder."""
    stages = programs.stages_of(encoder, batch, size)
    return _compiled(programs.sum_products(LinearReadout(map_size=(size, size)), stages))


def train_network(encoder: str, batch: int, size: int) -> Figures:
    """A training step of an encoder on labelled images, by the default recipe."""
    recipe = training.Recipe()
    module = encoders.create(encoder, num_classes=CLASSES, dtype=jnp.dtype(recipe.dtype))
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    objective = training.Classification(module)
    return _compiled(programs.train_network(objective, labels, size, recipe))


def _compiled(program: programs.Program, devices: int = 1) -> Figures:
    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY)
    step, arguments = program.on(topology.devices[:devices])
    lowered = step.lower(*arguments)
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    found, memory = estimate(compiled.as_text()), compiled.memory_analysis()
    kinds = ("argument", "output", "temp", "alias")
    return {
        "cycles": found.cycles,
        "endless": found.endless,
        "missing": dict(found.missing),
        "flops": products(jax.make_jaxpr(step)(*arguments)),
        "memory": {kind: getattr(memory, f"{kind}_size_in_bytes") for kind in kinds},
        "compile_seconds": seconds,
    }
