"""Runs: frozen encoders are probed, and what they gave is kept."""

from posjax.runs.frozen import FrozenEncoder, freeze
from posjax.runs.probe import probe
from posjax.runs.records import Record, Result, summarise
from posjax.runs.run import run
from posjax.runs.settings import Recipe, Settings

__all__ = [
    "FrozenEncoder",
    "Recipe",
    "Record",
    "Result",
    "Settings",
    "freeze",
    "probe",
    "run",
    "summarise",
]
