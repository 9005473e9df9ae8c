"""Transforms of any JAX function: another padding mode, maps from inside of a network."""

from posjax.transforms.interpret import Site, interpret
from posjax.transforms.repad import PaddedLayer, padded_layers, repad
from posjax.transforms.taps import NamedLayer, layers_of, maps_of

__all__ = [
    "NamedLayer",
    "PaddedLayer",
    "Site",
    "interpret",
    "layers_of",
    "maps_of",
    "padded_layers",
    "repad",
]
