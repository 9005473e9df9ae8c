"""How much absolute position a convolutional network encodes, and which padding puts it there."""

from posjax import encoders, images, layers, probes, runs

__version__ = "0.1.0"
__all__ = ["encoders", "images", "layers", "probes", "runs"]
