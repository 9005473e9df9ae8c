"""PPP: the position-information pattern from padding, measured without a readout."""

from posjax.ppp.pattern import Pattern, Sums, pattern
from posjax.ppp.run import run

__all__ = ["Pattern", "Sums", "pattern", "run"]
