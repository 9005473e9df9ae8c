"""Training: encoders learn under a padding mode of their own, and become weights to be probed."""

from posjax.training.classifier import State, train_step
from posjax.training.recipe import Recipe, optimizer
from posjax.training.run import Settings, run

__all__ = ["Recipe", "Settings", "State", "optimizer", "run", "train_step"]
