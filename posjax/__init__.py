"""How much absolute position a convolutional network encodes, and which padding puts it there."""

from posjax import encoders, layers, probes

__version__ = "0.1.0"
__all__ = ["encoders", "layers", "probes"]
