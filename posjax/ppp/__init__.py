"""PPP, the position-information pattern from padding, and channels that are aware of padding."""

from posjax.ppp.aware_run import run as find_aware
from posjax.ppp.pattern import Pattern, Sums, pattern
from posjax.ppp.run import run

__all__ = ["Pattern", "Sums", "find_aware", "pattern", "run"]
