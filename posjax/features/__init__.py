"""Features: a frozen encoder turns images into stages, once, and keeps them."""

from posjax.features.encoding import CPU_IMAGES, EncodingOptions, encode_step, layout_bytes
from posjax.features.features import Features, encode
from posjax.features.store import Store, disk_usage

__all__ = [
    "CPU_IMAGES",
    "EncodingOptions",
    "Features",
    "Store",
    "disk_usage",
    "encode",
    "encode_step",
    "layout_bytes",
]
