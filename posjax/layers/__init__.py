"""Pure functions of arrays: padded convolution, pooling, resizing and normalisation of maps."""

from posjax.layers.arrays import Arrays
from posjax.layers.conv import conv, max_pool
from posjax.layers.norm import BatchNorm
from posjax.layers.padding import (
    MODES,
    InputTooSmall,
    Mode,
    check_fits,
    check_mode,
    mode_index,
    pad,
    smallest_size,
)
from posjax.layers.resize import interpolation_matrix, resize_bilinear

__all__ = [
    "MODES",
    "Arrays",
    "BatchNorm",
    "InputTooSmall",
    "Mode",
    "check_fits",
    "check_mode",
    "conv",
    "interpolation_matrix",
    "max_pool",
    "mode_index",
    "pad",
    "resize_bilinear",
    "smallest_size",
]
