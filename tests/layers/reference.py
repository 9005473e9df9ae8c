"""What tests of the layers compare with: convolution in float64 by numpy, and arrays to try."""

import numpy as np


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def windows(x, size, stride=1):
    """[n, h2, w2, c, kh, kw]: what lies under each position of a window."""
    views = np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))
    return views[:, ::stride, ::stride]


def conv64(x, kernel, stride=1):
    """A VALID convolution in float64."""
    x, kernel = np.float64(x), np.float64(kernel)
    return np.einsum("nhwcij,ijcd->nhwd", windows(x, kernel.shape[:2], stride), kernel)


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
