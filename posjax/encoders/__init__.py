"""Encoders: frozen convolutional networks whose padding mode is a parameter."""

from posjax.encoders.blocks import Padding, Stages
from posjax.encoders.factory import create, names
from posjax.encoders.pretrained import Loaded, from_torch, load, load_with_info

__all__ = ["Loaded", "Padding", "Stages", "create", "from_torch", "load", "load_with_info", "names"]
