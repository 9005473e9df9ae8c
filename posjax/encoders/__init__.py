"""Encoders: frozen convolutional networks whose padding mode is a parameter."""

from posjax.encoders.blocks import ReceptiveField, Stages
from posjax.encoders.cpu import quick_on_cpu
from posjax.encoders.factory import (
    Network,
    check_padding,
    create,
    has_head,
    margins,
    names,
    network_of,
    padded_layers,
    pools_that_pad,
    stage_shapes,
)
from posjax.encoders.frozen import (
    DTYPES,
    NONE,
    NORMALIZATIONS,
    RANDOM,
    Encoder,
    frozen,
    read_weights,
)
from posjax.encoders.modes import layer_modes, with_modes
from posjax.encoders.pixels import PIXELS
from posjax.encoders.statistics import STATISTICS, normalised
from posjax.encoders.weights import (
    Checkpoint,
    Loaded,
    from_torch,
    load,
    load_with_info,
    read_checkpoint,
    shipped_modes,
    weights_path,
)
from posjax.encoders.wrap import find_network, wrap
from posjax.encoders.wrapped import OWN, Wrapped
from posjax.layers.network_padding import EACH, LOWEST, VALID, Padding, PaddingLike
from posjax.transforms import PaddedLayer, repad

__all__ = [
    "DTYPES",
    "EACH",
    "LOWEST",
    "NONE",
    "NORMALIZATIONS",
    "OWN",
    "PIXELS",
    "RANDOM",
    "STATISTICS",
    "VALID",
    "Checkpoint",
    "Encoder",
    "Loaded",
    "Network",
    "PaddedLayer",
    "Padding",
    "PaddingLike",
    "ReceptiveField",
    "Stages",
    "Wrapped",
    "check_padding",
    "create",
    "find_network",
    "from_torch",
    "frozen",
    "has_head",
    "layer_modes",
    "load",
    "load_with_info",
    "margins",
    "names",
    "network_of",
    "normalised",
    "padded_layers",
    "pools_that_pad",
    "quick_on_cpu",
    "read_checkpoint",
    "read_weights",
    "repad",
    "shipped_modes",
    "stage_shapes",
    "weights_path",
    "with_modes",
    "wrap",
]
