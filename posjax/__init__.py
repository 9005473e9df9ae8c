"""posjax: how much absolute position a convolutional network encodes, and where it comes from."""

__version__ = "0.1.0"
