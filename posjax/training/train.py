"""Training one network: epochs, checkpoints, evaluation; stopped and started as often as needed."""

import collections
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax import runtime
from posjax.probes.trainer import Variables
from posjax.runtime import Checkpoints, progress, write_rows
from posjax.training.dataset import Batch, order
from posjax.training.initial import initial_variables
from posjax.training.objective import Objective, State, evaluation_step, network_step
from posjax.training.optimizer import optimizer, schedule
from posjax.training.settings import OptimizerSettings
from posjax.training.task import Job

History = dict[str, np.ndarray]
"""By name, one value an epoch: means over the images of training, learning rate, and `test_…`."""


def train(job: Job, should_stop: Callable[[], bool] = lambda: False) -> tuple[Variables, History]:
    """Trains a network, from its newest checkpoint if it has one: its variables and figures.

    On the same CPUs the result is the same bit for bit, however often training was killed and
    started again. On another number of devices it is the same up to rounding, except for the
    dropout of VGG's head, which each device draws. Figures of epochs go to metrics.csv and
    TensorBoard's events.

    Raises:
        ValueError: a checkpoint, an image or weights cannot be read, or are of another training.
        FloatingPointError: the loss is not finite; says at which step and learning rate.
        OSError: a checkpoint cannot be written; the one before it is still there.
        InterruptedError: `should_stop` returned true; a checkpoint is written.
    """
    # Its import takes a while. A program's help need not wait for that.
    from tensorboardX import SummaryWriter

    size, epochs = job.settings.optimizer.batch_size, job.settings.optimizer.epochs
    total = epochs * job.steps_per_epoch * size
    with (
        Checkpoints(job.folder / "checkpoints", job.settings.checkpoint_seconds) as checkpoints,
        SummaryWriter(str(job.folder / "tensorboard")) as writer,
        progress.bar(total, f"train {job.title}", "images") as bar,
    ):
        run = _Run(job, checkpoints)
        bar.update(run.step * size)
        try:
            for epoch in range(run.finished_epochs, epochs):
                for batch in run.batches(epoch):
                    if checkpoints.due():
                        run.save()
                    run.take_step(batch)
                    progress.advance(bar, size, **run.shown)
                    check_stop(should_stop)
                figures = run.finish(epoch, should_stop)
                text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                progress.log(bar, f"{job.title}: epoch {epoch + 1} of {epochs}: {text}")
                for name, value in figures.items():
                    writer.add_scalar(name, value, epoch + 1)
                writer.flush()
                _write_metrics(job.folder / "metrics.csv", run.history, epoch + 1)
        except InterruptedError as error:
            run.save()
            raise InterruptedError(
                f"{error}: a checkpoint of {job.title}, is written after step {run.step}"
            ) from None
        run.save()
    return runtime.unreplicate(run.state).variables, run.history


class _Run:
    """A training on its way: the network's state, the sums of this epoch, and the steps so far.

    `shown` are the figures for the bar, of the last epoch that has any.
    """

    def __init__(self, job: Job, checkpoints: Checkpoints):
        """Goes to the newest checkpoint, or else to the start."""
        settings = job.settings.optimizer
        self.job, self.checkpoints = job, checkpoints
        self.rates = schedule(settings, job.steps_per_epoch)
        self.shown: dict[str, str] = {}
        variables = initial_variables(job)
        tx = optimizer(settings, job.steps_per_epoch)
        state, sums = State(variables, tx.init(variables["params"])), _no_sums(job.objective)
        history = _no_history(job.objective, settings.epochs)
        start = jax.device_get((state, sums, history))
        self.step, (state, sums, figures) = checkpoints.restore(start)
        if self.step:
            progress.note(f"{job.title}, goes on after step {self.step}")
        self._saved = self.step
        self._pending: collections.deque = collections.deque(maxlen=3)
        self.state, self.sums = runtime.replicate((state, sums), job.devices)
        self.history: History = {name: figures[name] for name in history}  # in this order

    @property
    def finished_epochs(self) -> int:
        """The number of epochs whose figures are known."""
        return int(np.isfinite(self.history["loss"]).sum())

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch for which no step is taken yet."""
        job, size = self.job, self.job.settings.optimizer.batch_size
        rows = order(len(job.task.train), size, epoch, job.seed)
        rest = rows[(self.step - epoch * job.steps_per_epoch) * size :]
        return job.task.train.batches(rest, size)

    def take_step(self, batch: Batch) -> None:
        """Takes a step on a batch."""
        job, settings = self.job, self.job.settings.optimizer
        normalize, steps = job.settings.normalize, job.steps_per_epoch
        take_step = _compiled_step(job.objective, settings, steps, normalize, job.devices)
        shards, _ = runtime.shard_batch(batch, settings.batch_size, job.devices)
        seed, number = runtime.replicate((np.uint32(job.seed), np.uint32(self.step)), job.devices)
        self.state, self.sums = take_step(self.state, self.sums, *shards, seed, number)
        self.step += 1
        # Steps that wait for the devices would pile up their batches in memory.
        self._pending.append(self.sums)
        jax.block_until_ready(self._pending[0])

    def finish(self, epoch: int, should_stop: Callable[[], bool]) -> dict[str, float]:
        """Evaluates where it is time for it, and enters the figures of an epoch in the history."""
        job, objective = self.job, self.job.objective
        state, sums = self._on_host()
        figures = {name: float(sums[name] / sums["count"]) for name in objective.trained}
        figures["learning_rate"] = self._rate()
        settings = job.settings
        if epoch + 1 == settings.optimizer.epochs or (epoch + 1) % settings.evaluate_every == 0:
            measures = evaluate(job, objective, state.variables, should_stop)
            tested = objective.summary(measures)
            self._check_finite(tested["loss"], state.variables)
            figures |= {f"test_{name}": tested[name] for name in objective.tested}
        for name, value in figures.items():
            self.history[name][epoch] = value
        shown = figures.keys() & {"loss", f"test_{objective.trained[-1]}"}
        self.shown |= {name: f"{figures[name]:.3f}" for name in sorted(shown)}
        self.sums = runtime.replicate(_no_sums(objective), job.devices)
        return {name: value for name, value in figures.items() if not np.isnan(value)}

    def save(self) -> None:
        """Writes a checkpoint, unless one of this step is written."""
        state, sums = self._on_host()
        if self.step > self._saved:
            self.checkpoints.save(self.step, (state, sums, self.history))
        self._saved = self.step

    def _on_host(self) -> tuple[State, dict[str, Any]]:
        state, sums = runtime.unreplicate((self.state, self.sums))
        self._check_finite(sums["loss"], state.variables)
        return state, sums

    def _check_finite(self, loss: Any, variables: Variables) -> None:
        leaves = jax.tree.leaves(variables)
        if not np.isfinite(loss) or not all(np.isfinite(leaf).all() for leaf in leaves):
            raise FloatingPointError(
                f"the loss or the weights are not finite, seen after step {self.step} with "
                f"learning rate {self._rate():g} (loss {float(loss):g}): lower the learning rate"
            )

    def _rate(self) -> float:
        """The learning rate of the last step."""
        return float(np.asarray(self.rates(self.step - 1)))


def evaluate(
    job: Job,
    objective: Objective,
    variables: Variables,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, np.ndarray]:
    """The measures and losses of all test images, each once.

    Raises:
        InterruptedError: `should_stop` returned true.
    """
    size, margin = job.settings.optimizer.batch_size, job.settings.optimizer.crop_margin
    step = _compiled_evaluation(objective, margin, job.settings.normalize, job.devices)
    variables = runtime.replicate(variables, job.devices)
    parts = []
    for batch in job.task.test.batches(np.arange(len(job.task.test)), size):
        check_stop(should_stop)
        shards, _ = runtime.shard_batch(batch, size, job.devices)
        parts.append(runtime.unshard(step(variables, *shards), len(batch[0])))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_stop(should_stop: Callable[[], bool]) -> None:
    """Raises InterruptedError where `should_stop` returns true."""
    if should_stop():
        raise InterruptedError("asked to stop")


def _write_metrics(path: Path, history: History, epochs: int) -> None:
    rows = []
    for epoch in range(epochs):
        values = (figures[epoch] for figures in history.values())
        rows.append((epoch + 1, *("" if np.isnan(value) else f"{value:.6g}" for value in values)))
    write_rows(path, ("epoch", *history), rows)


def _no_sums(objective: Objective) -> dict[str, np.float32]:
    return {name: np.float32(0) for name in (*objective.trained, "count")}


def _no_history(objective: Objective, epochs: int) -> History:
    names = (*objective.trained, "learning_rate", *(f"test_{name}" for name in objective.tested))
    return {name: np.full(epochs, np.nan) for name in names}


# Cached, because a compiled step serves all epochs and seeds.
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
