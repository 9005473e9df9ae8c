"""Encoders: frozen convolutional networks whose padding mode is a parameter."""

from posjax.encoders.blocks import Padding, Stages
from posjax.encoders.factory import create, names

__all__ = ["Padding", "Stages", "create", "names"]
