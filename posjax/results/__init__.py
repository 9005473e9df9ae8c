"""Results: one record for each readout and set of images, summaries, intervals, differences."""

from posjax.results.differences import (
    Difference,
    LayerEffect,
    between_controls,
    between_weights,
    layer_effects,
    paired_differences,
    selectivities,
)
from posjax.results.files import load_result, save_result
from posjax.results.frames import to_frame
from posjax.results.intervals import Interval
from posjax.results.records import Record, to_records, write_csv, write_records
from posjax.results.result import Gallery, ProbeSpec, Result, by_key
from posjax.results.summaries import Profile, Summary, profiles, summarise

__all__ = [
    "Difference",
    "Gallery",
    "Interval",
    "LayerEffect",
    "ProbeSpec",
    "Profile",
    "Record",
    "Result",
    "Summary",
    "between_controls",
    "between_weights",
    "by_key",
    "layer_effects",
    "load_result",
    "paired_differences",
    "profiles",
    "save_result",
    "selectivities",
    "summarise",
    "to_frame",
    "to_records",
    "write_csv",
    "write_records",
]
