"""Report: the page of a run with its tables and figures, and its table on the terminal."""

from posjax.report.report import write_report
from posjax.report.terminal import text_table

__all__ = ["text_table", "write_report"]
