"""Images: a spec becomes a source of square RGB images in [0, 1], a source becomes batches."""

from posjax.images.loader import STATISTICS, Source, batches
from posjax.images.rolled import Rolled
from posjax.images.selection import select
from posjax.images.sources import open_source

__all__ = ["STATISTICS", "Rolled", "Source", "batches", "open_source", "select"]
