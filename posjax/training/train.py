"""Training one network: epochs, checkpoints, evaluation; stopped and started as often as needed."""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posjax import runtime
from posjax.runtime import Checkpoints, progress
from posjax.training.feeding import Feed, order
from posjax.training.job import History, Job, Logs, Trained, evaluate
from posjax.training.objective import Objective, State, network_step
from posjax.training.optimizer import optimizer, schedule
from posjax.training.settings import OptimizerSettings


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
    size, epochs = job.settings.batch_size, job.settings.epochs
    check_batch(len(images), size, len(job.devices))
    run = _Run(job, images, logs.checkpoints)
    run.start(init_from)
    with progress.bar(epochs * run.steps_per_epoch * size, f"train {job.title}", "images") as bar:
        bar.update(run.step * size)
        for epoch in range(run.finished_epochs, epochs):
            for _ in run.take_steps(epoch):
                progress.advance(bar, size, **run.latest)
                if should_stop():
                    return run.stopped()
                if not run.at_end_of(epoch) and logs.checkpoints.due():
                    run.save()
            if not run.finish(epoch, test_images, should_stop):
                return run.stopped()
            progress.log(bar, f"{job.title}: epoch {epoch + 1} of {epochs}: {run.text(epoch)}")
            logs.log(epoch, run.history)
            if epoch + 1 == epochs or logs.checkpoints.due():
                run.save()
    return run.trained(finished=True)


class _Run:
    """A training on its way: the network's state, the sums of this epoch, and the steps so far.

    `latest` are the figures for the bar, of the last epoch that has any.
    """

    state: State
    sums: dict[str, Any]
    step: int
    history: History

    def __init__(self, job: Job, images: Feed, checkpoints: Checkpoints):
        self.job, self.images, self.checkpoints = job, images, checkpoints
        self.steps_per_epoch = len(images) // job.settings.batch_size
        self.rates = schedule(job.settings, self.steps_per_epoch)
        self.latest: dict[str, str] = {}
        self._saved = 0

    @property
    def finished_epochs(self) -> int:
        """The number of epochs whose figures are known."""
        return int(np.isfinite(self.history["loss"]).sum())

    def at_end_of(self, epoch: int) -> bool:
        """Whether all steps of an epoch are done."""
        return self.step == (epoch + 1) * self.steps_per_epoch

    def start(self, init_from: Callable[[Any], Any]) -> None:
        """Goes to the newest checkpoint, or else to the start."""
        job, settings = self.job, self.job.settings
        height, width, channels = self.images.shape
        shape = (1, height - settings.crop_margin, width - settings.crop_margin, channels)
        # No padding mode has parameters: all draw the same.
        random = jax.jit(job.objective.module.init)(jax.random.key(job.seed), jnp.zeros(shape))
        tx = optimizer(settings, self.steps_per_epoch)
        history = _no_history(job.objective, settings)
        start = State(random, tx.init(random["params"])), _no_sums(job.objective), history
        self.step, restored = self.checkpoints.restore(jax.device_get(start))
        state, sums, figures = restored
        if self.step:
            progress.note(f"{job.title}, seed {job.seed}, goes on after step {self.step}")
        else:
            # The optimiser's state begins with zeros, whatever the weights.
            state = state._replace(variables=init_from(random))
        self._saved = self.step
        self.state, self.sums = runtime.replicate((state, sums), job.devices)
        self.history = {name: figures[name] for name in history}  # in this order

    def take_steps(self, epoch: int) -> Iterator[None]:
        """Takes the remaining steps of an epoch, and returns to the caller after each."""
        job, size = self.job, self.job.settings.batch_size
        take_step = _compiled(
            job.objective, job.settings, self.steps_per_epoch, job.normalize, job.devices
        )
        rows = order(len(self.images), size, epoch, job.seed)
        rest = rows[(self.step - epoch * self.steps_per_epoch) * size :]
        seed = runtime.replicate(np.uint32(job.seed), job.devices)
        pending: collections.deque = collections.deque(maxlen=3)
        for batch in self.images.batches(rest, size):
            shards, _ = runtime.shard_batch(batch, size, job.devices)
            number = np.full(len(job.devices), self.step, np.uint32)
            self.state, self.sums = take_step(self.state, self.sums, *shards, seed, number)
            self.step += 1
            # Steps that wait for the devices would pile up their batches in memory.
            pending.append(self.sums)
            jax.block_until_ready(pending[0])
            yield

    def finish(self, epoch: int, test_images: Feed, should_stop: Callable[[], bool]) -> bool:
        """Enters the figures of an epoch into the history; false where it was stopped before."""
        job, objective = self.job, self.job.objective
        state, sums = self._on_host()
        figures = {name: float(sums[name] / sums["count"]) for name in objective.trained}
        figures["learning_rate"] = float(np.asarray(self.rates(self.step - 1)))
        if epoch + 1 == job.settings.epochs or (epoch + 1) % job.evaluate_every == 0:
            measures = evaluate(job, state.variables, test_images, should_stop)
            if measures is None:
                return False
            tested = objective.summary(measures)
            check_finite(tested["loss"], state.variables, self.step, self.rates)
            figures |= {f"test_{name}": tested[name] for name in objective.tested}
        for name, value in figures.items():
            self.history[name][epoch] = value
        shown = figures.keys() & {"loss", f"test_{objective.trained[-1]}"}
        self.latest |= {name: f"{figures[name]:.3f}" for name in sorted(shown)}
        self.sums = runtime.replicate(_no_sums(objective), job.devices)
        return True

    def text(self, epoch: int) -> str:
        """The figures of an epoch."""
        figures = {name: values[epoch] for name, values in self.history.items()}
        return ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if not np.isnan(v))

    def save(self) -> None:
        """Writes a checkpoint, unless one of this step is written."""
        state, sums = self._on_host()
        if self.step > self._saved:
            self.checkpoints.save(self.step, (state, sums, self.history))
        self._saved = self.step

    def stopped(self) -> Trained:
        """What training has come to, with a checkpoint of it."""
        self.save()
        return self.trained(finished=False)

    def trained(self, *, finished: bool) -> Trained:
        """What training has come to."""
        variables = runtime.unreplicate(self.state).variables
        return Trained(variables, self.history, self.step, finished)

    def _on_host(self) -> tuple[State, dict[str, Any]]:
        state, sums = runtime.unreplicate((self.state, self.sums))
        check_finite(sums["loss"], state.variables, self.step, self.rates)
        return state, sums


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
        f"{float(np.asarray(rates(step - 1))):g} (loss {float(loss):g}): lower the learning rate"
    )


def _no_sums(objective: Objective) -> dict[str, np.float32]:
    return {name: np.float32(0) for name in (*objective.trained, "count")}


def _no_history(objective: Objective, settings: OptimizerSettings) -> History:
    names = (*objective.trained, "learning_rate", *(f"test_{name}" for name in objective.tested))
    return {name: np.full(settings.epochs, np.nan) for name in names}


# Cached, because a compiled step serves all seeds.
@functools.cache
def _compiled(
    objective: Objective,
    settings: OptimizerSettings,
    steps: int,
    normalize: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    step = network_step(objective, optimizer(settings, steps), settings.crop_margin, normalize)
    return runtime.pmap(step, devices, donate_argnums=(0,))
