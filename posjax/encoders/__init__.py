"""Encoders: frozen convolutional networks whose padding mode is a parameter."""

from posjax.encoders.blocks import Lattice, Padding, Stages, base_mode, split_padding
from posjax.encoders.cpu import quick_on_cpu
from posjax.encoders.factory import check_padding, create, margins, names, padded_layers
from posjax.encoders.modes import layer_modes, shared_padding, with_modes
from posjax.encoders.pixels import PIXELS
from posjax.encoders.pretrained import Loaded, from_torch, load, load_with_info
from posjax.encoders.shipped import shipped_modes, shipped_path

__all__ = [
    "PIXELS",
    "Lattice",
    "Loaded",
    "Padding",
    "Stages",
    "base_mode",
    "check_padding",
    "create",
    "from_torch",
    "layer_modes",
    "load",
    "load_with_info",
    "margins",
    "names",
    "padded_layers",
    "quick_on_cpu",
    "shared_padding",
    "shipped_modes",
    "shipped_path",
    "split_padding",
    "with_modes",
]
