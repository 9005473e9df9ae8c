"""Results: one record for each readout and set of images, summaries, intervals, differences."""

from posjax.results.differences import (
    Difference,
    between_weights,
    layer_differences,
    paired_differences,
    selectivities,
)
from posjax.results.files import load_result, save_result, write_csv
from posjax.results.layer_effects import LayerEffect, layer_effects
from posjax.results.records import Gallery, ProbeSpec, Record, Result, to_records
from posjax.results.spatial_profiles import Profile, profiles
from posjax.results.summaries import Summary, summarise

__all__ = [
    "Difference",
    "Gallery",
    "LayerEffect",
    "ProbeSpec",
    "Profile",
    "Record",
    "Result",
    "Summary",
    "between_weights",
    "layer_differences",
    "layer_effects",
    "load_result",
    "paired_differences",
    "profiles",
    "save_result",
    "selectivities",
    "summarise",
    "to_records",
    "write_csv",
]
