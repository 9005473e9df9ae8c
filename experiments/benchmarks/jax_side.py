"""Cases of posjax: functions that make something ready and return what is to be timed."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from posjax import encoders, probes, runtime, training
from posjax.features import Features, store
from posjax.fitting import SGD, Readouts
from posjax.probes import trainer
from posjax.probes.controls import Task
from posjax.training.classification import CrossEntropy

MAPS = ("H", "V", "G", "HS", "VS")


def forward(encoder: str, padding: str, batch: int, size: int, as_data: bool = False) -> Callable:
    """All stages of an encoder with random weights; `as_data` makes the mode an argument."""
    frozen = encoders.frozen(encoder, padding=padding)
    frozen = frozen.with_padding_as_data() if as_data else frozen
    modes = () if frozen.modes is None else (np.array(frozen.modes, np.int32),)
    images = np.random.default_rng(0).random((batch, size, size, 3), dtype=np.float32)
    arguments = runtime.replicate((frozen.variables, images, *modes), runtime.local_devices(1))
    apply = _apply(frozen.network)
    return lambda: jax.block_until_ready(apply(*arguments))


# Cached, because one program serves all modes that are data.
@functools.lru_cache(maxsize=3)
def _apply(network: nn.Module) -> Callable:
    """The network as a run computes it; the modes of its layers may follow the images."""
    devices = runtime.local_devices(1)

    def apply(variables: Any, images: jax.Array, *modes: jax.Array) -> Any:
        switched = encoders.with_modes(network, *modes) if modes else network
        on_cpu = devices[0].platform == "cpu"
        encode = encoders.quick_on_cpu(switched.apply) if on_cpu else switched.apply
        return encode(variables, images)

    return runtime.pmap(apply, devices)


def encoder_pass(encoder: str, images: int, batch: int, size: int) -> Callable:
    """`images` images through the zero-padded encoder, in batches."""
    encode = forward(encoder, "zeros", batch, size)

    def run() -> None:
        for _ in range(0, images, batch):
            encode()

    return run


def readouts(count: int, images: int, batch: int, epochs: int, size: int) -> Callable:
    """`epochs` epochs of `count` readouts on stages on disk, of the shapes of a VGG-16's."""
    stages = _stages(images)
    layout = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in stages.items()}
    # The file stays open: its folder may go.
    with tempfile.TemporaryDirectory(prefix="posjax-benchmark-") as folder:
        path = Path(folder) / f"benchmark{store.SUFFIX}"
        store.write(path, layout, [stages])
        features = Features(store.read(path, layout), images)
    pairs = [(Task(name), seed) for seed in range(-(-count // len(MAPS))) for name in MAPS]
    readout = probes.Readout(map_size=(size, size))
    together = Readouts(readout, tuple(stages), *zip(*pairs[:count], strict=True))
    devices = runtime.local_devices()
    return lambda: SGD(epochs, batch_size=batch).fit(together, features, devices)


def training_step(depth: int, batch: int, size: int) -> Callable:
    """One step of one readout on a batch of stages that lies in memory."""
    readout, tx = probes.Readout(depth=depth, map_size=(size, size)), trainer.optimizer()
    target = trainer.target_for(readout, probes.position_map("H", size))
    stages = _stages(batch)
    variables = jax.jit(readout.init)(jax.random.key(0), {k: v[:1] for k, v in stages.items()})

    def step(state: training.State, stages: Any, target: trainer.LowResTarget) -> Any:
        return trainer.train_step(readout, tx, state, readout.align(stages), target)

    return _stepping(step, training.State(variables, tx.init(variables["params"])), stages, target)


def encoder_step(encoder: str, padding: str, batch: int, size: int) -> Callable:
    """One step of training an encoder, on images that lie in memory, as programs that train."""
    objective = CrossEntropy(encoders.create(encoder, padding, num_classes=10))
    tx = training.optimizer(training.OptimizerSettings(), 100)
    rng = np.random.default_rng(0)
    images = rng.random((batch, size, size, 3), dtype=np.float32)
    labels = rng.integers(0, 10, batch).astype(np.int32)
    variables = jax.jit(objective.module.init)(jax.random.key(0), images[:1])

    def step(state: training.State, images: jax.Array, labels: jax.Array) -> Any:
        key, axis = jax.random.key(0), runtime.BATCH_AXIS
        return training.train_step(objective, tx, state, images, labels, key, axis)

    return _stepping(step, training.State(variables, tx.init(variables["params"])), images, labels)


def _stepping(step: Callable, start: training.State, *arguments: Any) -> Callable:
    """Step after step on one device, whose state each step overwrites."""
    devices = runtime.local_devices(1)
    state, *copies = runtime.replicate((start, *arguments), devices)
    compiled = runtime.pmap(step, devices, donate_argnums=(0,))

    def run() -> None:
        nonlocal state
        state, others = compiled(state, *copies)
        jax.block_until_ready((state, others))

    return run


def about() -> str:
    """What this side computes on."""
    device = jax.devices()[0]
    return f"{len(jax.devices())} x {device.device_kind} ({device.platform})"


def _stages(count: int) -> dict[str, np.ndarray]:
    # Stored stages of a VGG-16: those above 28 pixels a side are stored at 28.
    sides, channels = (28, 28, 28, 28, 14), (64, 128, 256, 512, 512)
    rng = np.random.default_rng(0)
    return {
        f"f{i}": rng.random((count, side, side, width), dtype=np.float32).astype(jnp.bfloat16)
        for i, (side, width) in enumerate(zip(sides, channels, strict=True), 1)
    }
