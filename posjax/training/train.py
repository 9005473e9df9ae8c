"""Training one network: epochs, checkpoints, evaluation; stopped and started as often as needed."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posjax import runtime
from posjax.runtime import Checkpoints, progress
from posjax.training.feeding import Feed, order
from posjax.training.objective import Objective, State, evaluation_step, network_step
from posjax.training.optimizer import optimizer, schedule
from posjax.training.settings import OptimizerSettings

History = dict[str, np.ndarray]
"""By name, one value an epoch: means over the images of training, learning rate, and `test_…`."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What the training of one network depends on, beside its images. `title` is for people."""

    title: str
    objective: Objective
    settings: OptimizerSettings
    seed: int
    normalize: str
    devices: tuple[jax.Device, ...]
    evaluate_every: int = 1


class Logs(Protocol):
    """Where a training leaves its checkpoints and figures."""

    @property
    def checkpoints(self) -> Checkpoints:
        """The folder of checkpoints."""
        ...

    def log(self, epoch: int, history: History) -> None:
        """Keeps the figures of an epoch."""
        ...


class Trained(NamedTuple):
    """The variables of a network and each epoch's figures, so far.

    `step` counts from the start of training; `finished` is false where it was asked to stop.
    """

    variables: Any
    history: History
    step: int
    finished: bool


class TrainState(NamedTuple):
    """All that training changes: the network's state, the sums of this epoch, and the step."""

    state: State
    sums: dict[str, Any]
    step: int


def train(
    job: Job,
    images: Feed,
    test_images: Feed,
    logs: Logs,
    init_from: Callable[[Any], Any] = lambda variables: variables,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains a network, from its newest checkpoint if it has one.

    `init_from` makes the initial variables out of random ones.

    On the same CPUs the result is the same bit for bit, however often training was killed and
    started again. (GPUs do not add up in the same order every time.) On another number of devices
    it is the same up to rounding, except for the dropout of VGG's head, which each device draws.
    Checkpoints are written when they are due, at the end, and when `should_stop` returns true,
    which ends the training. The test images are evaluated every `evaluate_every` epochs, and after
    the last.

    Raises:
        ValueError: fewer images than a batch, a batch that the devices cannot share out evenly, a
            checkpoint that cannot be read or is of another training, an image that cannot be read.
        FloatingPointError: the loss is not finite; says at which step and learning rate.
        OSError: a checkpoint cannot be written; the one before it is still there.
    """
    settings = job.settings
    check_batch(len(images), settings.batch_size, len(job.devices))
    run = _Run(job, images, test_images, logs.checkpoints)
    current, history = run.start(init_from)
    done = int(np.isfinite(history["loss"]).sum())
    with progress.bar(settings.epochs * run.epoch_images, f"train {job.title}", "images") as bar:
        bar.update(current.step * settings.batch_size)
        for epoch in range(done, settings.epochs):
            for current in run.steps(current, epoch):
                progress.advance(bar, settings.batch_size, **_shown(history, epoch - 1))
                stopped = should_stop()
                if stopped or (current.step < run.end_of(epoch) and logs.checkpoints.due()):
                    run.save(current, history)
                if stopped:
                    return run.trained(current, history, finished=False)
            figures = run.figures(current, epoch, should_stop)
            if figures is None:
                run.save(current, history)
                return run.trained(current, history, finished=False)
            for key, value in figures.items():
                history[key][epoch] = value
            current = current._replace(sums=run.no_sums())
            text = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            progress.log(bar, f"{job.title}: epoch {epoch + 1} of {settings.epochs}: {text}")
            logs.log(epoch, history)
            if epoch + 1 == settings.epochs or logs.checkpoints.due():
                run.save(current, history)
    return run.trained(current, history, finished=True)


class _Run:
    """The parts of `train` that share its compiled step and its checkpoints."""

    def __init__(self, job: Job, images: Feed, test_images: Feed, checkpoints: Checkpoints):
        self.job, self.images, self.test_images = job, images, test_images
        self.checkpoints = checkpoints
        self.steps_per_epoch = len(images) // job.settings.batch_size
        self.epoch_images = self.steps_per_epoch * job.settings.batch_size
        self.rates = schedule(job.settings, self.steps_per_epoch)
        self.take_step = _compiled_step(
            job.objective, job.settings, self.steps_per_epoch, job.normalize, job.devices
        )
        self.saved = 0

    def end_of(self, epoch: int) -> int:
        """The number of steps at the end of an epoch."""
        return (epoch + 1) * self.steps_per_epoch

    def no_sums(self) -> dict[str, Any]:
        """The sums at the start of an epoch, on the devices."""
        return runtime.replicate(_no_sums(self.job.objective), self.job.devices)

    def start(self, init_from: Callable[[Any], Any]) -> tuple[TrainState, History]:
        """The newest checkpoint, or else the start."""
        job, settings = self.job, self.job.settings
        height, width, channels = self.images.shape
        shape = (1, height - settings.crop_margin, width - settings.crop_margin, channels)
        # No padding mode has parameters of its own: all draw the same.
        random = jax.jit(job.objective.module.init)(jax.random.key(job.seed), jnp.zeros(shape))
        tx = optimizer(settings, self.steps_per_epoch)
        history = _no_history(job.objective, settings)
        start = State(random, tx.init(random["params"])), _no_sums(job.objective), history
        step, (state, sums, restored) = self.checkpoints.restore(jax.device_get(start))
        if step:
            progress.note(f"{job.title}, seed {job.seed}, goes on after step {step}")
        else:
            # The optimiser's state begins with zeros, whatever the weights.
            state = state._replace(variables=init_from(random))
        self.saved = step
        current = TrainState(*runtime.replicate((state, sums), job.devices), step)
        return current, {name: restored[name] for name in history}  # in this order

    def steps(self, current: TrainState, epoch: int) -> Iterator[TrainState]:
        """The state after each remaining batch of an epoch, whose memory the next one reuses."""
        job, size = self.job, self.job.settings.batch_size
        rows = order(len(self.images), size, epoch, job.seed)
        rest = rows[(current.step - epoch * self.steps_per_epoch) * size :]
        seed = runtime.replicate(np.uint32(job.seed), job.devices)
        pending: collections.deque = collections.deque(maxlen=3)
        for batch in self.images.batches(rest, size):
            shards, _ = runtime.shard_batch(batch, size, job.devices)
            number = np.full(len(job.devices), current.step, np.uint32)
            state, sums = self.take_step(*current[:2], *shards, seed, number)
            current = TrainState(state, sums, current.step + 1)
            # Steps that wait for the devices would pile up their batches in memory.
            pending.append(sums)
            jax.block_until_ready(pending[0])
            yield current

    def figures(
        self, current: TrainState, epoch: int, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None:
        """The figures of a finished epoch; None where it was asked to stop before they are."""
        objective = self.job.objective
        state, sums = self._on_host(current)
        figures = {name: float(sums[name] / sums["count"]) for name in objective.trained}
        figures["learning_rate"] = float(self.rates(current.step - 1))
        last = epoch + 1 == self.job.settings.epochs
        if last or (epoch + 1) % self.job.evaluate_every == 0:
            measures = evaluate(self.job, state.variables, self.test_images, should_stop)
            if measures is None:
                return None
            tested = objective.summary(measures)
            check_finite(tested["loss"], state.variables, current.step, self.rates)
            figures |= {f"test_{name}": tested[name] for name in objective.tested}
        return figures

    def save(self, current: TrainState, history: History) -> None:
        """Writes a checkpoint, unless one of this step is written."""
        state, sums = self._on_host(current)
        if current.step > self.saved:
            self.checkpoints.save(current.step, (state, sums, history))
        self.saved = current.step

    def trained(self, current: TrainState, history: History, *, finished: bool) -> Trained:
        """What training came to."""
        variables = runtime.unreplicate(current.state).variables
        return Trained(variables, history, current.step, finished)

    def _on_host(self, current: TrainState) -> tuple[State, dict[str, Any]]:
        state, sums = runtime.unreplicate(current[:2])
        check_finite(sums["loss"], state.variables, current.step, self.rates)
        return state, sums


def _shown(history: History, epoch: int) -> dict[str, str]:
    """The figures of an epoch that the bar shows."""
    names = ("loss", "test_accuracy", "test_mae") if epoch >= 0 else ()
    values = {name: history[name][epoch] for name in names if name in history}
    return {name: f"{value:.3f}" for name, value in values.items() if np.isfinite(value)}


def check_batch(count: int, batch_size: int, devices: int) -> None:
    """Raises ValueError where there is not one whole batch, or devices would get unequal parts."""
    if count < batch_size:
        raise ValueError(f"batch_size={batch_size}: there are only {count} training images")
    if batch_size % devices:
        raise ValueError(f"batch_size={batch_size} is no multiple of the {devices} devices")


def check_finite(loss: Any, variables: Any, step: int, rates: optax.Schedule) -> None:
    """Raises FloatingPointError where the loss up to `step`, or the weights, are not finite."""
    if np.isfinite(loss) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        return
    raise FloatingPointError(
        f"the loss or the weights are not finite, seen after step {step} with learning rate "
        f"{float(rates(step - 1)):g} (loss {float(loss):g}): lower the learning rate"
    )


def evaluate(
    job: Job,
    variables: Any,
    images: Feed,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, np.ndarray] | None:
    """The measures of all images, each once; None where it was asked to stop before that."""
    size = job.settings.batch_size
    step = _compiled_evaluation(
        job.objective, job.settings.crop_margin, job.normalize, job.devices
    )
    variables = runtime.replicate(variables, job.devices)
    parts = []
    for batch in images.batches(np.arange(len(images)), size):
        if should_stop():
            return None
        shards, _ = runtime.shard_batch(batch, size, job.devices)
        parts.append(runtime.unshard(step(variables, *shards), len(batch[0])))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _no_sums(objective: Objective) -> dict[str, np.float32]:
    return {name: np.float32(0) for name in (*objective.trained, "count")}


def _no_history(objective: Objective, settings: OptimizerSettings) -> History:
    names = (*objective.trained, "learning_rate", *(f"test_{name}" for name in objective.tested))
    return {name: np.full(settings.epochs, np.nan) for name in names}


# Cached, because a compiled step serves all seeds.
@functools.cache
def _compiled_step(
    objective: Objective,
    settings: OptimizerSettings,
    steps: int,
    normalize: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    step = network_step(objective, optimizer(settings, steps), settings.crop_margin, normalize)
    return runtime.pmap(step, devices, donate_argnums=(0,))


@functools.cache
def _compiled_evaluation(
    objective: Objective, margin: int, normalize: str, devices: tuple[jax.Device, ...]
) -> Callable:
    return runtime.pmap(evaluation_step(objective, margin, normalize), devices)
