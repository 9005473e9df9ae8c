"""Training: encoders learn under a padding mode of their own, and become weights to be probed."""

from posjax.training.recipe import Recipe
from posjax.training.run import Settings, run

__all__ = ["Recipe", "Settings", "run"]
