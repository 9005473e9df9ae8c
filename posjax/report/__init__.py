"""Report: the page of a run with its tables and figures, and its table on the terminal."""

from posjax.report.drawn import drawn_maps
from posjax.report.report import html_tables, write_report
from posjax.report.terminal import text_table

__all__ = ["drawn_maps", "html_tables", "text_table", "write_report"]
