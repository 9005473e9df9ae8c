"""A task: a kind of training, opened on its images; a job: the training of one of its networks."""

import abc
import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from posjax.encoders import RANDOM, Padding
from posjax.probes.trainer import Variables
from posjax.training.dataset import Dataset
from posjax.training.objective import Objective
from posjax.training.settings import TrainingSettings

WEIGHTS = "weights.safetensors"


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What networks learn, and from which images.

    `digests` of images and `about` join config.json: a run goes on only where the former are the
    same. `facts` are lines of the plan, by name.
    """

    settings: TrainingSettings
    train: Dataset
    test: Dataset
    digests: Mapping[str, str]
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    @abc.abstractmethod
    def open(cls, settings: Any) -> "Task":
        """Opens the images that the settings name.

        Raises:
            ValueError: they cannot be read or do not fit together; names the argument.
        """
        ...

    @abc.abstractmethod
    def objective(self, padding: Padding) -> Objective:
        """What a network under this padding learns."""
        ...

    @abc.abstractmethod
    def files(self, job: "Job", variables: Variables) -> dict[str, bytes]:
        """The files of a finished training, by name. `WEIGHTS` is one of them."""
        ...

    @abc.abstractmethod
    def write_table(self) -> str:
        """Writes a table of the finished trainings in the workdir; the same as text."""
        ...


@dataclasses.dataclass(frozen=True)
class Job:
    """The training of one network; `initial_weights` is the digest of what it begins with."""

    task: Task
    padding: Padding
    seed: int
    devices: tuple[jax.Device, ...]
    initial_weights: str = RANDOM

    @property
    def settings(self) -> TrainingSettings:
        """Those of the task."""
        return self.task.settings

    @functools.cached_property
    def objective(self) -> Objective:
        """What the network learns."""
        return self.task.objective(self.padding)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.task.train) // self.settings.optimizer.batch_size

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.settings.encoder} {self.padding}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        name = f"{self.settings.encoder}-{self.padding}-seed{self.seed}"
        return self.settings.workdir / name

    @property
    def finished(self) -> bool:
        """Whether its files are there."""
        return (self.folder / WEIGHTS).exists()

    def metadata(self) -> dict[str, str]:
        """What its files say of it."""
        return {
            "encoder": self.settings.encoder,
            "padding": str(self.padding),
            "seed": str(self.seed),
            "normalize": self.settings.normalize,
            "image_size": str(self.settings.image_size),
            "recipe": json.dumps(dataclasses.asdict(self.settings.optimizer)),
            "weights": self.settings.weights,
            "initial_weights": self.initial_weights,
        }


@contextlib.contextmanager
def naming(argument: str) -> Iterator[None]:
    """Errors in the block begin with the name of the argument."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{argument}: {error}") from error


def left_out(skipped: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, str]:
    """Lines of a plan: how many images of each set were left out, and the first ones with why."""
    return {
        f"left out of {name}": shorten([f"{file} ({problem})" for file, problem in bad], 5)
        for name, bad in skipped.items()
        if bad
    }


def shorten(names: Sequence[str], most: int = 10) -> str:
    """How many they are, and the first of them."""
    return f"{len(names)}: {', '.join(names[:most])}{', …' if len(names) > most else ''}"
