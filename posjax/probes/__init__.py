"""Probes: what is trained and measured on an encoder's stages."""

from posjax.probes.metrics import constant_mae, mae, spc
from posjax.probes.position_maps import MAPS, position_map
from posjax.probes.readout import Readout
from posjax.probes.trainer import fit

__all__ = [
    "MAPS",
    "Readout",
    "constant_mae",
    "fit",
    "mae",
    "position_map",
    "spc",
]
