"""Transforms of any JAX function: another padding mode, maps from inside of a network."""

from posjax.transforms.interpret import Site, interpret
from posjax.transforms.repad import PaddedLayer, padded_layers, repad
from posjax.transforms.responses import at_padded_layers
from posjax.transforms.taps import NamedLayer, layers_of, maps_of
from posjax.transforms.windows import Window

__all__ = [
    "NamedLayer",
    "PaddedLayer",
    "Site",
    "Window",
    "at_padded_layers",
    "interpret",
    "layers_of",
    "maps_of",
    "padded_layers",
    "repad",
]
