"""Runs: settings, the conditions that a run compares, the plan, the workdir and the run."""

from posjax.runs.compare import compare
from posjax.runs.comparison import Results, read_runs
from posjax.runs.readout_settings import ReadoutSettings
from posjax.runs.run import run
from posjax.runs.settings import Settings

__all__ = ["ReadoutSettings", "Results", "Settings", "compare", "read_runs", "run"]
