"""Images: a spec becomes a source of square RGB images in [0, 1], a source becomes batches."""

from posjax.images.in_memory import Arrays, InMemory
from posjax.images.kept import Kept
from posjax.images.labelled import Labelled, open_labelled
from posjax.images.loader import Source, batches, read_bytes, read_pixels
from posjax.images.mask_values import HALF
from posjax.images.masks import Masked, open_masked
from posjax.images.sources import check_stored, open_source
from posjax.images.views import Rolled, select

__all__ = [
    "HALF",
    "Arrays",
    "InMemory",
    "Kept",
    "Labelled",
    "Masked",
    "Rolled",
    "Source",
    "batches",
    "check_stored",
    "open_labelled",
    "open_masked",
    "open_source",
    "read_bytes",
    "read_pixels",
    "select",
]
