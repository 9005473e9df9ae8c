"""Cases of posjax: functions that make something ready and return what is to be timed."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from posjax import encoders, runtime, training
from posjax.training.classification import CrossEntropy


def forward(encoder: str, padding: str, batch: int, size: int, as_data: bool = False) -> Callable:
    """All stages of an encoder with random weights; `as_data` makes the mode an argument."""
    frozen, devices = encoders.frozen(encoder, padding=padding), runtime.local_devices(1)
    frozen = frozen.with_padding_as_data() if as_data else frozen
    images = np.random.default_rng(0).random((batch, size, size, 3), dtype=np.float32)
    modes = None if frozen.modes is None else np.array(frozen.modes, np.int32)

    def apply(variables: Any, images: jax.Array, modes: jax.Array | None) -> Any:
        network = frozen.network if modes is None else encoders.with_modes(frozen.network, modes)
        on_cpu = devices[0].platform == "cpu"
        encode = encoders.quick_on_cpu(network.apply) if on_cpu else network.apply
        return encode(variables, images)

    compiled = runtime.pmap(apply, devices)
    arguments = runtime.replicate((frozen.variables, images, modes), devices)
    return lambda: jax.block_until_ready(compiled(*arguments))


def resnet20_step(padding: str, batch: int) -> Callable:
    """One step of training a CIFAR ResNet-20, on images that lie in memory."""
    objective = CrossEntropy(encoders.create("resnet20", padding, num_classes=10))
    tx, devices = training.optimizer(training.OptimizerSettings(), 100), runtime.local_devices(1)
    rng = np.random.default_rng(0)
    images = rng.random((batch, 32, 32, 3), dtype=np.float32)
    labels = rng.integers(0, 10, batch).astype(np.int32)
    variables = jax.jit(objective.module.init)(jax.random.key(0), images[:1])

    def step(state: training.State, images: jax.Array, labels: jax.Array) -> Any:
        key, axis = jax.random.key(0), runtime.BATCH_AXIS
        return training.train_step(objective, tx, state, images, labels, key, axis)

    compiled = runtime.pmap(step, devices, donate_argnums=(0,))
    start = training.State(variables, tx.init(variables["params"]))
    state, images, labels = runtime.replicate((start, images, labels), devices)

    def run() -> None:
        nonlocal state
        state, measures = compiled(state, images, labels)
        jax.block_until_ready((state, measures))

    return run


def about() -> str:
    """What this side computes on."""
    device = jax.devices()[0]
    return f"{len(jax.devices())} x {device.device_kind} ({device.platform})"
