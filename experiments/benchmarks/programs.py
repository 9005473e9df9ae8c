"""What a run compiles: its steps, with the shapes of what they are given, and no numbers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct as Shape

from posjax import encoders, runtime, training
from posjax.features import encode_step
from posjax.fitting import FEATURE_SIZE, closed_form, scoring, sgd
from posjax.probes import LinearReadout, Readout
from posjax.probes.moments import no_sums
from posjax.probes.trainer import LowResTarget, optimizer, step_decay
from posjax.training import objective as networks

STORED, NORMALIZE = "bfloat16", "imagenet"
STEPS = 10  # of an epoch: schedules need a number
Stages = dict[str, Shape]


@dataclasses.dataclass(frozen=True)
class Program:
    """A step of one device, the shapes of its arguments, and which of them it may overwrite."""

    step: Callable
    arguments: tuple[Any, ...]
    donated: tuple[int, ...] = ()

    def on(self, devices: Sequence[jax.Device]) -> tuple[Callable, tuple[Any, ...]]:
        """The step as a run compiles it for so many devices, and the shapes of its arguments."""

        def of_all(shape: Shape) -> Shape:
            return Shape((len(devices), *shape.shape), shape.dtype)

        step = runtime.pmap(self.step, devices, donate_argnums=self.donated)
        return step, jax.tree.map(of_all, self.arguments)

    def result(self) -> Any:
        """The shapes of what it returns."""
        return jax.eval_shape(self.step, *self.arguments)


def encode(
    encoder: str, padding: str | None, dtype: str, batch: int, size: int, platform: str
) -> Program:
    """Encoding; without a padding in words, the modes of all layers are an argument."""
    module = encoders.create(encoder, padding or "zeros", dtype=jnp.dtype(dtype))
    step = encode_step(module, NORMALIZE, FEATURE_SIZE, STORED, platform)
    modes = None if padding else mode_shape(encoder)
    return Program(step, (variables_of(encoders.create(encoder)), pixels(batch, size), modes))


def stages_of(encoder: str, batch: int, size: int) -> Stages:
    """The stages of a batch of images, as they are stored."""
    return encode(encoder, "zeros", STORED, batch, size, "cpu").result()[0]


def begin_readouts(readout: Readout, stages: Stages, count: int) -> Program:
    """The initial variables of `count` readouts."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
    return Program(jax.vmap(readout.init, in_axes=(0, None)), (keys, stages))


def train_readouts(readout: Readout, stages: Stages, count: int, per_image: int = 0) -> Program:
    """A training step of `count` readouts, `per_image` of which learn another map of each image."""
    tx = optimizer(step_decay(0.1, 15, STEPS))
    variables, batch = begin_readouts(readout, stages, count).result(), _batch_of(stages)
    state = training.State(variables, jax.eval_shape(jax.vmap(tx.init), variables["params"]))
    common, images = (_targets(readout, rows) for rows in ((count,), (batch, per_image)))
    step = sgd.readout_step(readout, tx, tuple(range(per_image)))
    return Program(step, (state, common, images, stages, Shape((batch,), jnp.float32)), (0,))


def _targets(readout: Readout, rows: tuple[int, ...]) -> LowResTarget:
    shape = (*rows, *readout.response_size)
    return jax.eval_shape(lambda: LowResTarget(jnp.zeros(shape), jnp.zeros(rows)))


def score_readouts(readout: Readout, stages: Stages, count: int, per_image: int = 0) -> Program:
    """The scores of `count` readouts, `per_image` of which have another map of each image."""
    variables = begin_readouts(readout, stages, count).result()
    goals = Shape((count, *readout.map_size), jnp.float32)
    places = goals.size // count if per_image else 0
    permutations = Shape((_batch_of(stages), places), jnp.int32)
    step = scoring.score_step(readout, tuple(range(per_image)))
    return Program(step, (variables, goals, stages, permutations))


def sum_products(readout: LinearReadout, stages: Stages) -> Program:
    """The sums of ridge with those of a batch."""
    channels = sum(stage.shape[-1] for stage in stages.values())
    shift, mask = Shape((channels,), jnp.float32), Shape((_batch_of(stages),), jnp.float32)
    sums = jax.eval_shape(lambda: no_sums(readout, channels))
    return Program(closed_form.sum_step(readout), (sums, stages, shift, mask), (0,))


def train_network(
    objective: networks.Objective, targets: Shape, size: int, settings: training.OptimizerSettings
) -> Program:
    """A training step of a network on a batch of images of `size` pixels."""
    tx = training.optimizer(settings, STEPS)
    variables = variables_of(objective.module)
    state = training.State(variables, jax.eval_shape(tx.init, variables["params"]))
    sums = {name: Shape((), jnp.float32) for name in (*objective.trained, "count")}
    step = networks.network_step(objective, tx, settings.crop_margin, NORMALIZE)
    numbers = (Shape((), jnp.uint32),) * 2
    return Program(
        step, (state, sums, *examples(targets, size, settings.crop_margin), *numbers), (0,)
    )


def examples(targets: Shape, size: int, margin: int) -> tuple[Shape, Shape]:
    """Images and targets, with the margin that random windows need."""
    count, *sides = targets.shape
    masks = tuple(length + margin for length in sides)
    return pixels(count, size + margin), Shape((count, *masks), targets.dtype)


def variables_of(module: nn.Module) -> Any:
    """The variables of a network."""
    return jax.eval_shape(module.init, jax.random.key(0), Shape((1, 64, 64, 3), jnp.float32))


def pixels(count: int, side: int) -> Shape:
    """Images as they are sent."""
    return Shape((count, side, side, 3), jnp.uint8)


def mode_shape(encoder: str) -> Shape:
    """A mode for each layer of an encoder."""
    return Shape((len(encoders.padded_layers(encoder)),), jnp.int32)


def _batch_of(stages: Stages) -> int:
    return len(next(iter(stages.values())))
