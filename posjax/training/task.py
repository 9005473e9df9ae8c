"""What sets one kind of training apart from another, and what it is given."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from posjax.encoders import Padding
from posjax.training.feeding import Dataset, Feed
from posjax.training.job import Job, Trained, evaluate
from posjax.training.objective import Objective
from posjax.training.settings import TrainingSettings

WEIGHTS = "weights.safetensors"


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The images to train on and to test on.

    `about` joins config.json, and so do `digests`: a run is the same only where they are.
    """

    train: Dataset
    test: Dataset
    about: dict[str, Any]
    digests: dict[str, str]


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A network whose training has come to its end."""

    settings: TrainingSettings
    padding: Padding
    job: Job
    trained: Trained
    initial_weights: str
    images: Feed
    tests: Feed

    def measures(self, objective: Objective, variables: Any) -> dict[str, np.ndarray]:
        """The measures of all test images, of variables that need not be those trained."""
        job = dataclasses.replace(self.job, objective=objective)
        measures = evaluate(job, variables, self.tests)
        assert measures is not None  # nobody asks it to stop
        return measures

    def about(self) -> dict[str, str]:
        """The metadata of its files."""
        return {
            "encoder": self.settings.encoder,
            "padding": str(self.padding),
            "seed": str(self.job.seed),
            "normalize": self.settings.normalize,
            "image_size": str(self.settings.image_size),
            "recipe": json.dumps(dataclasses.asdict(self.settings.optimizer)),
            "weights": self.settings.weights,
            "initial_weights": self.initial_weights,
        }


@runtime_checkable
class Task(Protocol):
    """A kind of training."""

    def open(self, settings: Any) -> Datasets:
        """The images and targets that the settings name."""
        ...

    def objective(self, settings: Any, padding: Padding, datasets: Datasets) -> Objective:
        """What a network under this padding learns."""
        ...

    def files(self, model: TrainedModel) -> dict[str, bytes]:
        """The files of a finished training, by name. `WEIGHTS` is one of them."""
        ...

    def write_table(self, workdir: Path) -> str:
        """Writes a table of a workdir's finished trainings; the same as text."""
        ...

    def with_encoder(self, network: Any, encoder: Any) -> Any:
        """The variables of a network with those of an encoder in their place."""
        ...
