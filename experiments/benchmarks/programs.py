"""What a run compiles: every step, with the shapes of what it is given, and no numbers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct as Shape
from posjax.runs.groups import FEATURE_SIZE

from posjax import encoders, runtime, training
from posjax.features import encoding
from posjax.fitting import closed_form, scoring
from posjax.fitting import sgd as grid
from posjax.ppp import measure as pattern
from posjax.probes import LinearReadout, Readout
from posjax.probes.ridge import no_sums
from posjax.probes.trainer import Target, optimizer, step_decay
from posjax.training import steps as training_steps
from posjax.training.saliency import crop_shift

STORED = "bfloat16"
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


def encode(
    encoder: str, padding: str | None, dtype: str, batch: int, size: int, platform: str
) -> Program:
    """Encoding; without a padding in words, the modes of all layers are an argument."""
    module = encoders.create(encoder, padding or "zeros", dtype=jnp.dtype(dtype))
    return Program(
        encoding.encode_step(module, "imagenet", FEATURE_SIZE, STORED, platform),
        (
            _variables(encoders.create(encoder)),
            Shape((batch, size, size, 3), jnp.uint8),
            None if padding else _modes(encoder),
        ),
    )


def stages_of(encoder: str, batch: int, size: int) -> Stages:
    """The stages of a batch of images, as they are stored."""
    program = encode(encoder, "zeros", STORED, batch, size, "cpu")
    return jax.eval_shape(program.step, *program.arguments)[0]


def begin_readouts(readout: Readout, stages: Stages, count: int) -> Program:
    """The initial variables of `count` readouts."""
    return Program(jax.vmap(readout.init, in_axes=(0, None)), (_keys(count), stages))


def train_readouts(readout: Readout, stages: Stages, count: int, own: int = 0) -> Program:
    """A training step of `count` readouts, `own` of which learn a map of each image's own."""
    tx = optimizer(step_decay(0.1, 15, STEPS))
    variables = _readouts(readout, stages, count)
    state = training.State(variables, jax.eval_shape(jax.vmap(tx.init), variables["params"]))
    batch = _count(stages)
    common, images = (
        Target(Shape((*rows, *readout.response_size), jnp.float32), Shape(rows, jnp.float32))
        for rows in ((count,), (batch, own))
    )
    return Program(
        grid.readout_step(readout, tx, tuple(range(own))),
        (state, common, images, stages, Shape((batch,), jnp.float32)),
        (0,),
    )


def score_readouts(readout: Readout, stages: Stages, count: int, own: int = 0) -> Program:
    """The scores of `count` readouts, `own` of which have a map of each image's own."""
    height, width = readout.map_size
    return Program(
        scoring.score_step(readout, tuple(range(own)), located=True),
        (
            _readouts(readout, stages, count),
            Shape((count, height, width), jnp.float32),
            stages,
            Shape((_count(stages), height * width if own else 0), jnp.int32),
        ),
    )


def predict_maps(readout: Readout, stages: Stages, count: int) -> Program:
    """The maps that `count` readouts predict."""
    return Program(scoring.predict_step(readout), (_readouts(readout, stages, count), stages))


def start_sums(readout: LinearReadout, stages: Stages) -> Program:
    """The sums of ridge over no images."""
    return Program(closed_form.start_step(readout), (_shift(stages),))


def sum_products(readout: LinearReadout, stages: Stages) -> Program:
    """The sums of ridge with those of a batch."""
    shift = _shift(stages)
    sums = jax.eval_shape(lambda: no_sums(readout, *shift.shape))
    mask = Shape((_count(stages),), jnp.float32)
    return Program(closed_form.sum_step(readout), (sums, stages, shift, mask), (0,))


def begin_network(module: nn.Module, size: int) -> Program:
    """Random weights of a network."""
    images = jnp.zeros((1, size, size, 3))
    return Program(lambda key: module.init(key, images), (jax.eval_shape(jax.random.key, 0),))


def train_network(
    objective: training_steps.Objective, targets: Shape, size: int, recipe: training.Recipe
) -> Program:
    """A training step of a network on a batch of images of `size` pixels."""
    tx = training.optimizer(recipe, STEPS)
    variables = _variables(objective.module)
    state = training.State(variables, jax.eval_shape(tx.init, variables["params"]))
    sums = {name: Shape((), jnp.float32) for name in (*objective.trained, "count")}
    number = Shape((), jnp.uint32)
    return Program(
        training_steps.network_step(objective, tx, recipe.crop_margin, "imagenet"),
        (state, sums, *_examples(targets, size, recipe), number, number),
        (0,),
    )


def evaluate_network(
    objective: training_steps.Objective, targets: Shape, size: int, recipe: training.Recipe
) -> Program:
    """The measures of a batch of test images."""
    return Program(
        training_steps.evaluation_step(objective, recipe.crop_margin, "imagenet"),
        (_variables(objective.module), *_examples(targets, size, recipe)),
    )


def encode_surroundings(encoder: str, batch: int, crop: int) -> Program:
    """The stages of images around PPP's crops."""
    module, side = encoders.create(encoder), pattern.geometry(encoder, crop).image_size
    return Program(
        pattern.surroundings_step(module, "imagenet"),
        (_variables(module), Shape((batch, side, side, 3), jnp.uint8)),
    )


def encode_crops(encoder: str, padding: str | None, batch: int, crop: int) -> Program:
    """PPP's sums over a batch; without a padding in words, the modes are an argument."""
    whole = encode_surroundings(encoder, batch, crop)
    return Program(
        pattern.crops_step(
            encoders.create(encoder, padding or "zeros"),
            "imagenet",
            pattern.geometry(encoder, crop),
        ),
        (
            *whole.arguments,
            jax.eval_shape(whole.step, *whole.arguments),
            Shape((batch,), jnp.float32),
            None if padding else _modes(encoder),
        ),
    )


def measure_shifts(network: nn.Module, batch: int, size: int, step: int) -> Program:
    """How far a dense network's predictions go with crops that move."""
    side = size + 2 * step
    return Program(
        crop_shift.shift_step(network, "imagenet", size, step),
        (_variables(network), Shape((batch, side, side, 3), jnp.uint8)),
    )


def _variables(module: nn.Module) -> Any:
    images = Shape((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def _modes(encoder: str) -> Shape:
    return Shape((len(encoders.padded_layers(encoder)),), jnp.int32)


def _examples(targets: Shape, size: int, recipe: training.Recipe) -> tuple[Shape, Shape]:
    """Images and targets, with the margin that random windows need."""
    count, *sides = targets.shape
    side = size + recipe.crop_margin
    masks = tuple(length + recipe.crop_margin for length in sides)
    images = Shape((count, side, side, 3), jnp.uint8)
    return images, Shape((count, *masks), targets.dtype)


def _readouts(readout: Readout, stages: Stages, count: int) -> Any:
    program = begin_readouts(readout, stages, count)
    return jax.eval_shape(program.step, *program.arguments)


def _keys(count: int) -> Shape:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))


def _shift(stages: Stages) -> Shape:
    return Shape((sum(stage.shape[-1] for stage in stages.values()),), jnp.float32)


def _count(stages: Stages) -> int:
    return len(next(iter(stages.values())))
