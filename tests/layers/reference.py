"""What tests of the layers compare with: padding and convolution in float64 by numpy."""

from pathlib import Path

import numpy as np

# What PyTorch computed: data/make_layers.py says how.
TORCH = np.load(Path(__file__).parent / "data" / "layers.npz")
NUMPY = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
    "mean": "constant",
    "extrapolate": "reflect",
    "partial": "constant",
}
QUICK = {"xla_backend_optimization_level": 0}  # Each shape is compiled for one call.


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numpy_pad(x, widths, mode):
    widths = ((0, 0), *widths, (0, 0))
    if mode == "mean":  # of the whole map, in corners too
        inside = np.pad(np.ones(x.shape, bool), widths)
        mean = np.mean(x, (1, 2), keepdims=True, dtype=np.float64).astype(x.dtype)
        return np.where(inside, np.pad(x, widths), mean)
    options = {"reflect_type": "odd"} if mode == "extrapolate" else {}
    return np.pad(x, widths, mode=NUMPY[mode], **options)


def windows(x, size, stride=1):
    """[n, h2, w2, c, kh, kw]: what lies under each position of a window."""
    views = np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))
    return views[:, ::stride, ::stride]


def conv64(x, kernel, stride=1):
    """A VALID convolution in float64."""
    x, kernel = np.float64(x), np.float64(kernel)
    return np.einsum("nhwcij,ijcd->nhwd", windows(x, kernel.shape[:2], stride), kernel)


def close(values, expected, tolerance=1e-5):
    assert values.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance * scale)
