"""Features: a frozen encoder turns images into stages, once, and keeps them."""

from posjax.features.encoding import (
    EncodingOptions,
    encode_step,
    encoded_at_once,
    layout_bytes,
)
from posjax.features.features import Features, encode
from posjax.features.store import Store, disk_usage

__all__ = [
    "EncodingOptions",
    "Features",
    "Store",
    "disk_usage",
    "encode",
    "encode_step",
    "encoded_at_once",
    "layout_bytes",
]
