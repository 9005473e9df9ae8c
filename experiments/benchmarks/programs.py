"""What a run compiles: every step, with the shapes of what it is given, and no numbers."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct as Shape

from posjax import encoders, runtime, training
from posjax.features import encode_step
from posjax.fitting import FEATURE_SIZE, scoring, sgd
from posjax.ppp import measure as ppp
from posjax.probes import Readout, moments
from posjax.probes.trainer import LowResTarget, optimizer, step_decay
from posjax.training import objective as networks
from posjax.training.saliency.shift import shift_step

STORED, NORMALIZE = "bfloat16", "imagenet"
STEPS = 10  # of an epoch: schedules need a number
Stages = dict[str, Shape]
NUMBER, STEP = Shape((), jnp.float32), Shape((), jnp.uint32)


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
    modes = None if padding else _modes(encoder)
    step = encode_step(module, NORMALIZE, FEATURE_SIZE, STORED, platform)
    return Program(step, (_variables(encoders.create(encoder)), _pixels(batch, size), modes))


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
    variables, batch = begin_readouts(readout, stages, count).result(), _count(stages)
    state = training.State(variables, jax.eval_shape(jax.vmap(tx.init), variables["params"]))
    common, images = (_targets(readout, rows) for rows in ((count,), (batch, per_image)))
    step = sgd.readout_step(readout, tx, tuple(range(per_image)))
    return Program(step, (state, common, images, stages, Shape((batch,), jnp.float32)), (0,))


def _targets(readout: Readout, rows: tuple[int, ...]) -> LowResTarget:
    shape = (*rows, *readout.response_size)
    return jax.eval_shape(lambda: LowResTarget(jnp.zeros(shape), jnp.zeros(rows)))


def score_readouts(readout: Readout, stages: Stages, count: int, per_image: int = 0) -> Program:
    """The scores of `count` readouts, `per_image` of which have another map of each image."""
    height, width = readout.map_size
    variables = begin_readouts(readout, stages, count).result()
    goals = Shape((count, height, width), jnp.float32)
    permutations = Shape((_count(stages), height * width if per_image else 0), jnp.int32)
    step = scoring.score_step(readout, tuple(range(per_image)))
    return Program(step, (variables, goals, stages, permutations))


def predict_maps(readout: Readout, stages: Stages, count: int) -> Program:
    """The maps that `count` readouts predict."""
    variables = begin_readouts(readout, stages, count).result()
    return Program(partial(scoring.predict_maps, readout), (variables, stages))


def start_sums(readout: Readout, stages: Stages) -> Program:
    """The sums of ridge over no images."""
    return Program(partial(moments.no_sums, readout), (_shift(stages),))


def sum_products(readout: Readout, stages: Stages) -> Program:
    """The sums of ridge with those of a batch."""
    shift, mask = _shift(stages), Shape((_count(stages),), jnp.float32)
    sums = start_sums(readout, stages).result()
    return Program(partial(moments.add_images, readout), (sums, stages, shift, mask), (0,))


def begin_network(module: nn.Module, size: int) -> Program:
    """Random weights of a network."""
    images = jnp.zeros((1, size, size, 3))
    return Program(lambda key: module.init(key, images), (jax.eval_shape(jax.random.key, 0),))


def train_network(
    objective: networks.Objective, targets: Shape, size: int, settings: training.OptimizerSettings
) -> Program:
    """A training step of a network on a batch of images of `size` pixels."""
    tx = training.optimizer(settings, STEPS)
    variables = _variables(objective.module)
    state = training.State(variables, jax.eval_shape(tx.init, variables["params"]))
    sums = {name: NUMBER for name in (*objective.trained, "count")}
    step = networks.network_step(objective, tx, settings.crop_margin, NORMALIZE)
    examples = _examples(targets, size, settings.crop_margin)
    return Program(step, (state, sums, *examples, STEP, STEP), (0,))


def evaluate_network(
    objective: networks.Objective, targets: Shape, size: int, settings: training.OptimizerSettings
) -> Program:
    """The measures of a batch of test images."""
    step = networks.evaluation_step(objective, settings.crop_margin, NORMALIZE)
    examples = _examples(targets, size, settings.crop_margin)
    return Program(step, (_variables(objective.module), *examples))


def encode_surroundings(encoder: str, batch: int, crop: int) -> Program:
    """The stages of images around PPP's crops."""
    module, side = encoders.create(encoder), ppp.crop_geometry(encoder, crop).image_size
    step = ppp.surroundings_step(module, NORMALIZE)
    return Program(step, (_variables(module), _pixels(batch, side)))


def encode_crops(encoder: str, padding: str | None, batch: int, crop: int) -> Program:
    """PPP's sums over a batch; without a padding in words, the modes are an argument."""
    whole = encode_surroundings(encoder, batch, crop)
    module = encoders.create(encoder, padding or "zeros")
    step = ppp.crops_step(module, NORMALIZE, ppp.crop_geometry(encoder, crop))
    mask, modes = Shape((batch,), jnp.float32), None if padding else _modes(encoder)
    return Program(step, (*whole.arguments, whole.result(), mask, modes))


def measure_shifts(network: nn.Module, batch: int, size: int, step: int) -> Program:
    """How far a dense network's predictions go with crops that move."""
    images = _pixels(batch, size + 2 * step)
    return Program(shift_step(network, NORMALIZE, size, step), (_variables(network), images))


def _variables(module: nn.Module) -> Any:
    images = Shape((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def _pixels(count: int, side: int) -> Shape:
    return Shape((count, side, side, 3), jnp.uint8)


def _modes(encoder: str) -> Shape:
    return Shape((len(encoders.padded_layers(encoder)),), jnp.int32)


def _examples(targets: Shape, size: int, margin: int) -> tuple[Shape, Shape]:
    """Images and targets, with the margin that random windows need."""
    count, *sides = targets.shape
    masks = tuple(length + margin for length in sides)
    return _pixels(count, size + margin), Shape((count, *masks), targets.dtype)


def _shift(stages: Stages) -> Shape:
    return Shape((sum(stage.shape[-1] for stage in stages.values()),), jnp.float32)


def _count(stages: Stages) -> int:
    return len(next(iter(stages.values())))
