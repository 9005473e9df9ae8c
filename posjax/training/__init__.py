"""Training: networks learn under a padding mode of their own, and become encoders to be probed."""

from posjax.training.classification import CLASSES, Classification
from posjax.training.dense import MASKS, DenseSettings
from posjax.training.recipe import Recipe, optimizer
from posjax.training.run import run
from posjax.training.settings import Settings
from posjax.training.steps import State, train_step

__all__ = [
    "CLASSES",
    "MASKS",
    "Classification",
    "DenseSettings",
    "Recipe",
    "Settings",
    "State",
    "optimizer",
    "run",
    "train_step",
]
