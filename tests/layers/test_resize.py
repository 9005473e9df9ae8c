"""Bilinear resizing: PyTorch's in both corner conventions, linear, and without antialiasing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import QUICK, TORCH, draw

from posjax.layers import interpolation_matrix, resize_bilinear

CASES = {
    "up": ((2, 5, 4, 2), (12, 9)),
    "down": ((2, 13, 11, 2), (5, 4)),
    "down_up": ((1, 14, 5, 2), (6, 11)),
    "integer_down": ((1, 12, 8, 2), (4, 2)),
    "to_one": ((1, 6, 5, 2), (1, 1)),
    "from_one": ((1, 1, 1, 2), (3, 5)),
    "column_to_row": ((1, 6, 1, 2), (1, 3)),
}
corners = pytest.mark.parametrize("align_corners", [False, True])
few = settings(max_examples=5, deadline=None)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
resize = jax.jit(
    resize_bilinear, static_argnums=1, static_argnames="align_corners", compiler_options=QUICK
)


@corners
@pytest.mark.parametrize("name", CASES)
def test_resizing_is_that_of_pytorch(name, align_corners):
    shape, size = CASES[name]
    resized = resize(draw(1, *shape), size, align_corners=align_corners)
    np.testing.assert_allclose(resized, TORCH[f"resize.{name}.{align_corners}"], atol=2e-6)


@few
@given(source=st.tuples(st.integers(2, 12), st.integers(2, 12)), target=sizes)
def test_linear_maps_stay_exact_between_aligned_corners(source, target):
    def ramp(height, width):
        # A map of one pixel lies in the first corner.
        y, x = np.linspace(0, 1, height), np.linspace(0, 1, width)
        return np.float32(2 + 3 * y[:, None] - 5 * x)[None, ..., None]

    np.testing.assert_allclose(
        resize(ramp(*source), target, align_corners=True), ramp(*target), atol=1e-5
    )


@few
@given(target=sizes, factor=st.sampled_from([3, 5]))
def test_shrinking_takes_the_centre_pixel_without_antialiasing(target, factor):
    x = draw(0, 1, *(factor * t for t in target), 2)
    resized = resize(x, target, align_corners=False)
    half = factor // 2
    np.testing.assert_allclose(resized, x[:, half::factor, half::factor], atol=1e-6)


@corners
@few
@given(source=st.integers(1, 15), target=st.integers(1, 15))
def test_each_row_of_the_matrix_weighs_at_most_two_neighbours(align_corners, source, target):
    matrix = interpolation_matrix(source, target, align_corners)
    assert matrix.shape == (target, source)
    assert matrix.dtype == np.float64
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
    for row in matrix:
        assert np.ptp(np.flatnonzero(row)) <= 1


@corners
def test_resizing_is_the_matrix_applied_to_rows_and_columns(align_corners):
    x = draw(0, 2, 5, 8, 3)
    rows = interpolation_matrix(5, 7, align_corners)
    columns = interpolation_matrix(8, 3, align_corners)
    expected = np.einsum("hi,wj,nijc->nhwc", rows, columns, x)
    resized = resize_bilinear(x, (7, 3), align_corners=align_corners)
    np.testing.assert_allclose(resized, expected, atol=1e-6)


@corners
def test_the_same_size_changes_nothing(align_corners):
    x = draw(0, 2, 5, 4, 3)
    np.testing.assert_array_equal(resize_bilinear(x, (5, 4), align_corners=align_corners), x)
    np.testing.assert_array_equal(interpolation_matrix(5, 5, align_corners), np.eye(5))


@corners
def test_bfloat16_stays_bfloat16(align_corners):
    x = jnp.asarray(draw(0, 1, 4, 4, 2), "bfloat16")
    resized = resize_bilinear(x, (7, 9), align_corners=align_corners)
    assert resized.dtype == "bfloat16"
    expected = resize_bilinear(np.float32(x), (7, 9), align_corners=align_corners)
    np.testing.assert_allclose(np.float32(resized), expected, atol=0.05)


@pytest.mark.parametrize(
    ("source", "size"), [((4, 4), (0, 3)), ((4, 4), (3, -1)), ((0, 4), (2, 2))]
)
def test_a_size_below_one_pixel_is_refused(source, size):
    with pytest.raises(ValueError, match="sizes must be 1 pixel or more"):
        resize_bilinear(draw(0, 1, *source, 1), size, align_corners=True)
