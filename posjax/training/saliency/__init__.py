"""Saliency: a dense task, trained with and without padding, and probed by moved crops."""

from posjax.training.saliency.task import Saliency, SaliencySettings

__all__ = ["Saliency", "SaliencySettings"]
