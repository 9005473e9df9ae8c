"""Cases of posjax: functions that make something ready and return what is to be timed."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posjax import encoders, probes, runtime, training
from posjax.features import store as cache
from posjax.features.features import Features
from posjax.fitting import sgd as grid
from posjax.probes.controls import Task
from posjax.probes.trainer import State, Target, optimizer, target_for, train_step

FEATURE_SIZE = (28, 28)
MAPS = ("H", "V", "G", "HS", "VS")


def forward(encoder: str, padding: str, batch: int, size: int, as_data: bool = False) -> Callable:
    """All stages of an encoder with random weights; `as_data` makes the mode an argument."""
    apply, arguments = _forward(encoder, batch, size, None if as_data else padding)
    if as_data:
        modes = encoders.layer_modes(encoders.create(encoder), padding)
        arguments = (*arguments, runtime.replicate(modes, runtime.local_devices(1)))
    return lambda: jax.block_until_ready(apply(*arguments))


def encoder_pass(encoder: str, images: int, batch: int, size: int) -> Callable:
    """`images` images through the zero-padded encoder, in batches."""
    apply, arguments = _forward(encoder, batch, size, "zeros")

    def run() -> None:
        for _ in range(0, images, batch):
            jax.block_until_ready(apply(*arguments))

    return run


def readouts(count: int, images: int, batch: int, epochs: int, size: int) -> Callable:
    """`epochs` epochs of `count` readouts on stages on disk, of the shapes of a VGG-16's."""
    # The files stay open: their folder may go.
    with tempfile.TemporaryDirectory(prefix="posjax-benchmark-") as folder:
        stages = _stored(Path(folder) / "features", images)
    pairs = [(Task(name), seed) for seed in range(-(-count // len(MAPS))) for name in MAPS]
    tasks, seeds = zip(*pairs[:count], strict=True)
    readout = probes.Readout(map_size=(size, size))
    devices = runtime.local_devices()

    def run() -> None:
        options = {"epochs": epochs, "batch_size": batch, "devices": devices}
        grid.train(readout, stages, tuple(stages.stages), tasks, seeds, **options)

    return run


def training_step(depth: int, batch: int, size: int) -> Callable:
    """One step of one readout on a batch of stages that lies in memory."""
    readout = probes.Readout(depth=depth, map_size=(size, size))
    devices = runtime.local_devices(1)
    tx = optimizer()
    target = target_for(readout, probes.position_map("H", size))
    variables = jax.jit(readout.init)(jax.random.key(0), _stages(1))
    start = State(variables, tx.init(variables["params"]))
    stages = _in_bfloat16(_stages(batch))
    state, target, stages = runtime.replicate((start, target, stages), devices)

    def train(state: State, stages: Any, target: Target) -> Any:
        return train_step(readout, tx, state, readout.align(stages), target)

    step = runtime.pmap(train, devices, donate_argnums=(0,))

    def run() -> None:
        nonlocal state
        state, loss = step(state, stages, target)
        jax.block_until_ready((state, loss))

    return run


def encoder_step(encoder: str, padding: str, batch: int, size: int) -> Callable:
    """One step of training an encoder, on images that lie in memory, as programs that train."""
    module = encoders.create(encoder, padding=padding, num_classes=10)
    objective = training.Classification(module)
    devices = runtime.local_devices(1)
    recipe = training.Recipe()
    tx = training.optimizer(recipe, 100)
    rng = np.random.default_rng(0)
    images = rng.random((batch, size, size, 3), dtype=np.float32)
    labels = rng.integers(0, 10, batch).astype(np.int32)
    variables = jax.jit(module.init)(jax.random.key(0), images[:1])
    start = training.State(variables, tx.init(variables["params"]))
    state, images, labels = runtime.replicate((start, images, labels), devices)

    def one(state: training.State, images: jax.Array, labels: jax.Array) -> Any:
        key = jax.random.key(0)
        return training.train_step(objective, tx, state, images, labels, key, runtime.BATCH_AXIS)

    step = runtime.pmap(one, devices, donate_argnums=(0,))

    def run() -> None:
        nonlocal state
        state, sums = step(state, images, labels)
        jax.block_until_ready((state, sums))

    return run


def about() -> dict[str, str]:
    """What this side computes on."""
    device = jax.devices()[0]
    return {"device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})"}


# Cached, because one program serves all modes that are data.
@functools.lru_cache(maxsize=3)
def _forward(
    encoder: str, batch: int, size: int, padding: str | None
) -> tuple[Callable, tuple[Any, ...]]:
    """The encoder as a run computes it; without a padding in words, it takes modes too."""
    module = encoders.create(encoder, padding or "zeros")
    devices = runtime.local_devices(1)
    images = np.random.default_rng(0).random((batch, size, size, 3), dtype=np.float32)

    def apply(variables: Any, images: jax.Array, *modes: jax.Array) -> Any:
        switched = encoders.with_modes(module, *modes) if modes else module
        on_cpu = devices[0].platform == "cpu"
        encode = encoders.quick_on_cpu(switched.apply) if on_cpu else switched.apply
        return encode(variables, images)

    return runtime.pmap(apply, devices), runtime.replicate((_variables(encoder), images), devices)


@functools.lru_cache(maxsize=1)
def _variables(encoder: str) -> Any:
    """He-normal kernels, drawn without compiling anything."""
    module, images = encoders.create(encoder), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    rng = np.random.default_rng(1)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if len(leaf.shape) == 1:
            ones = path[-1].key in ("scale", "var")
            return jnp.asarray(np.full(leaf.shape, float(ones), np.float32))
        deviation = (2 / (leaf.shape[0] * leaf.shape[1] * leaf.shape[3])) ** 0.5
        return jnp.asarray(deviation * rng.standard_normal(leaf.shape, np.float32))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _stored(folder: Path, count: int) -> Features:
    layout = {k: jax.ShapeDtypeStruct(v.shape, jnp.bfloat16) for k, v in _stages(count).items()}
    cache.fill(folder, layout, lambda done: iter([_in_bfloat16(_stages(count - done))]))
    return Features(cache.read(folder))


def _in_bfloat16(stages: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype(jnp.bfloat16) for name, array in stages.items()}


def _stages(count: int) -> dict[str, np.ndarray]:
    # Stored stages of a VGG-16: those above 28 pixels a side are stored at 28.
    sides, channels = (28, 28, 28, 28, 14), (64, 128, 256, 512, 512)
    rng = np.random.default_rng(0)
    return {
        f"f{i}": rng.random((count, side, side, width), dtype=np.float32)
        for i, (side, width) in enumerate(zip(sides, channels, strict=True), 1)
    }
