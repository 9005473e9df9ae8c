"""Winograd's convolution against the direct sum, in float64 and bit for bit."""

import jax
import numpy as np
import pytest
from reference import QUICK, conv64, draw

from posjax.layers.winograd import winograd


@pytest.mark.parametrize(
    ("shape", "outputs", "widths"),
    [
        ((2, 6, 3, 4), 5, ((0, 2), (1, 0))),
        # The number of images that go through at once does not divide that of the images.
        ((3, 60, 50, 2), 3, ((1, 1), (1, 1))),
    ],
    ids=str,
)
def test_winograd_equals_the_direct_sum(shape, outputs, widths):
    x, kernel = draw(0, *shape), draw(1, 3, 3, shape[-1], outputs)
    y = jax.jit(winograd, static_argnums=2, compiler_options=QUICK)(x, kernel, widths)
    expected = conv64(np.pad(x, ((0, 0), *widths, (0, 0))), kernel)
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_one_colour_gives_one_response_bit_for_bit():
    x, kernel = np.broadcast_to(draw(0, 128), (2, 17, 20, 128)), draw(1, 3, 3, 128, 130)
    y = np.asarray(jax.jit(winograd, static_argnums=2)(x, kernel, ((0, 0), (0, 0))))
    assert (y == y[:, :1, :1]).all()
