"""Training: networks learn, each under its padding mode, and become encoders to be probed."""

from posjax.training.classification import Classification
from posjax.training.objective import State, train_step
from posjax.training.optimizer import optimizer
from posjax.training.run import run
from posjax.training.saliency import Saliency, SaliencySettings
from posjax.training.settings import OptimizerSettings, TrainingSettings
from posjax.training.task import Task

__all__ = [
    "Classification",
    "OptimizerSettings",
    "Saliency",
    "SaliencySettings",
    "State",
    "Task",
    "TrainingSettings",
    "optimizer",
    "run",
    "train_step",
]
