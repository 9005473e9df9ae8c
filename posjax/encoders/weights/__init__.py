"""Weights: files, PyTorch's names, the hub, and encoders that come with posjax."""

from posjax.encoders.weights.files import Checkpoint, read_checkpoint
from posjax.encoders.weights.load import Loaded, load, load_with_info, weights_path
from posjax.encoders.weights.shipped import shipped_modes, shipped_path
from posjax.encoders.weights.torch_names import from_torch

__all__ = [
    "Checkpoint",
    "Loaded",
    "from_torch",
    "load",
    "load_with_info",
    "read_checkpoint",
    "shipped_modes",
    "shipped_path",
    "weights_path",
]
