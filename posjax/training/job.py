"""The training of one network: what it depends on, what it leaves, and how it is evaluated."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from posjax import runtime
from posjax.runtime import Checkpoints
from posjax.training.feeding import Feed
from posjax.training.objective import Objective, evaluation_step
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


@runtime_checkable
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

    `step` counts from the start of training; `finished` is false where it was stopped before.
    """

    variables: Any
    history: History
    step: int
    finished: bool


def evaluate(
    job: Job,
    variables: Any,
    images: Feed,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, np.ndarray] | None:
    """The measures of all images, each once; None where `should_stop` came true before that."""
    size, margin = job.settings.batch_size, job.settings.crop_margin
    step = _compiled(job.objective, margin, job.normalize, job.devices)
    variables = runtime.replicate(variables, job.devices)
    parts = []
    for batch in images.batches(np.arange(len(images)), size):
        if should_stop():
            return None
        shards, _ = runtime.shard_batch(batch, size, job.devices)
        parts.append(runtime.unshard(step(variables, *shards), len(batch[0])))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# Cached, because a compiled step serves all seeds.
@functools.cache
def _compiled(
    objective: Objective, margin: int, normalize: str, devices: tuple[jax.Device, ...]
) -> Callable:
    return runtime.pmap(evaluation_step(objective, margin, normalize), devices)
