"""Padding modes: numpy's where numpy has them, and refusals that say which size would do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import NUMPY, QUICK, draw, numpy_pad

from posjax.layers import MODES, InputTooSmall, check_mode, mode_index, pad, smallest_size

# The smallest map that a mode can pad by a width: mirrors and wraps happen once at most.
SMALLEST = {
    "zeros": lambda width: 1,
    "reflect": lambda width: width + 1,
    "replicate": lambda width: 1,
    "circular": lambda width: max(width, 1),
    "symmetric": lambda width: max(width, 1),
    "mean": lambda width: 1,
    "extrapolate": lambda width: width + 1,
    "partial": lambda width: 1,
    "valid": lambda width: 1,
}
jitted = jax.jit(pad, static_argnums=(1, 2), compiler_options=QUICK)
by_integer = jax.jit(pad, static_argnums=1, compiler_options=QUICK)


def image(height, width, seed=0):
    return draw(seed, 2, height, width, 3)


@pytest.mark.parametrize(
    ("mode", "row"),
    [
        ("zeros", "0 0 1 2 3 4 0 0"),
        ("reflect", "3 2 1 2 3 4 3 2"),
        ("replicate", "1 1 1 2 3 4 4 4"),
        ("circular", "3 4 1 2 3 4 1 2"),
        ("symmetric", "2 1 1 2 3 4 4 3"),
        ("mean", "2.5 2.5 1 2 3 4 2.5 2.5"),
        ("extrapolate", "-1 0 1 2 3 4 5 6"),
        ("partial", "0 0 1 2 3 4 0 0"),
        ("valid", "1 2 3 4"),
    ],
)
def test_every_mode_pads_a_row_as_its_docstring_says(mode, row):
    x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 4, 1)
    padded = pad(x, ((0, 0), (2, 2)), mode)
    assert " ".join(f"{value:g}" for value in np.ravel(padded)) == row
    assert sorted(MODES) == sorted([*NUMPY, "valid"])
    assert check_mode(mode) == mode


@pytest.mark.parametrize(
    ("widths", "more"),
    [(((2, 1), (1, 3)), 0), (((0, 2), (4, 0)), 3), (((0, 0), (0, 1)), 0)],
    ids=str,
)
def test_every_mode_is_that_of_numpy_by_word_and_by_integer(widths, more):
    for mode in NUMPY:
        x = image(*(SMALLEST[mode](max(pair)) + more for pair in widths))
        expected = numpy_pad(x, widths, mode)
        for padded in jitted(x, widths, mode), by_integer(x, widths, jnp.int32(mode_index(mode))):
            # Only a mean is rounded.
            np.testing.assert_allclose(padded, expected, rtol=0, atol=1e-6 * (mode == "mean"))


def test_valid_ignores_the_widths():
    x = image(2, 3)
    np.testing.assert_array_equal(pad(x, ((3, 1), (0, 2)), "valid"), x)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "mean", "extrapolate"])
def test_bfloat16_stays_bfloat16(mode):
    x, widths = jnp.asarray(image(3, 4), "bfloat16"), ((1, 2), (2, 1))
    expected = numpy_pad(np.asarray(x), widths, mode)
    for chosen in (mode, jnp.int32(mode_index(mode))):
        padded = pad(x, widths, chosen)
        assert padded.dtype == "bfloat16"
        np.testing.assert_array_equal(padded, expected)


def test_the_mean_of_many_pixels_of_bfloat16_is_not_summed_in_bfloat16():
    x = jnp.full((1, 64, 64, 1), 1.5, "bfloat16")  # A sum in bfloat16 stays below 512.
    for mode in ("mean", jnp.int32(mode_index("mean"))):
        np.testing.assert_array_equal(np.float32(pad(x, ((1, 1), (1, 1)), mode)), 1.5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", [(0, 0), (0, 3), (4, 1)])
def test_smallest_size_depends_on_the_wider_side(mode, pair):
    assert smallest_size(pair, mode) == SMALLEST[mode](max(pair))


@pytest.mark.parametrize("mode", ["reflect", "circular", "symmetric", "extrapolate"])
@pytest.mark.parametrize(("pair", "axis"), [((0, 3), 0), ((5, 2), 1)])
def test_a_map_too_small_is_refused_with_the_smallest_size_which_works(mode, pair, axis):
    smallest = SMALLEST[mode](max(pair))
    sides = [(0, 0), (0, 0)]
    sides[axis] = pair

    def padded(size):
        return pad(image(*((size, 3) if axis == 0 else (3, size))), tuple(sides), mode)

    words = f"{mode} .*{('height', 'width')[axis]} {smallest} or more, not {smallest - 1}"
    with pytest.raises(InputTooSmall, match=words):
        padded(smallest - 1)
    assert padded(smallest).shape[1 + axis] == smallest + sum(pair)
    assert issubclass(InputTooSmall, ValueError)


@pytest.mark.parametrize("mode", ["", "same", "Zeros", "constant"])
def test_unknown_modes_are_refused_with_the_known_ones(mode):
    for refuse in (check_mode, mode_index, lambda mode: pad(image(4, 4), ((1, 1), (1, 1)), mode)):
        with pytest.raises(ValueError, match="is unknown") as error:
            refuse(mode)
        assert repr(mode) in str(error.value)
        assert all(known in str(error.value) for known in MODES)


def test_valid_is_no_integer():
    with pytest.raises(ValueError, match="'valid' changes the size"):
        mode_index("valid")


@pytest.mark.parametrize("mode", ["zeros", "reflect", "valid"])
@pytest.mark.parametrize("widths", [((-1, 1), (1, 1)), ((1, 1), (1, -4))], ids=str)
def test_negative_widths_are_refused(mode, widths):
    with pytest.raises(ValueError, match=r"must not be negative.*-"):
        pad(image(4, 4), widths, mode)


def test_one_map_is_padded_under_many_modes_at_once():
    x, modes = image(4, 4), np.array([mode_index(mode) for mode in NUMPY], np.int32)
    widths = ((1, 2), (2, 1))
    padded = jax.jit(jax.vmap(lambda mode: pad(x, widths, mode)), compiler_options=QUICK)(modes)
    for one, mode in zip(padded, NUMPY, strict=True):
        np.testing.assert_allclose(one, numpy_pad(x, widths, mode), rtol=0, atol=1e-6)


def test_infinite_features_do_not_reach_the_zeros_beyond_the_border():
    x = np.full((1, 3, 3, 1), np.inf, np.float32)
    padded = pad(x, ((1, 1), (1, 1)), jnp.int32(mode_index("zeros")))
    np.testing.assert_array_equal(padded[0, 0, :, 0], np.zeros(5))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_stay_out_of_modes_that_do_not_use_them(value):
    x, widths = image(7, 7), ((2, 1), (1, 2))
    x[:, 3, 3] = x[:, 0, 4] = value  # Inside, where the mean alone looks, and at the edge.

    @functools.partial(jax.jit, compiler_options=QUICK)
    def padded(mode):
        gradient = jax.grad(lambda x: jnp.sum(pad(x, widths, mode)))(x)
        return pad(x, widths, mode), gradient

    for mode in NUMPY:
        result, gradient = padded(jnp.int32(mode_index(mode)))
        assert np.all(np.isfinite(gradient))
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(result, numpy_pad(x, widths, mode), rtol=0, atol=1e-6)


def test_the_gradient_adds_what_stands_beyond_the_border_to_its_source():
    widths = ((1, 2), (2, 0))
    x, moved, direction = image(4, 5), image(7, 7, seed=1), image(4, 5, seed=2)

    def gradient(mode):
        return jax.grad(lambda x: jnp.sum(pad(x, widths, mode) * moved))(x)

    by_integer = jax.jit(gradient, compiler_options=QUICK)
    for mode in NUMPY:
        # The padding is linear: along any direction the slope is the padded direction's.
        expected = np.sum(numpy_pad(direction, widths, mode) * np.float64(moved))
        slope = np.sum(by_integer(jnp.int32(mode_index(mode))) * direction)
        np.testing.assert_allclose(slope, expected, rtol=1e-4)
        if mode in ("zeros", "reflect", "mean", "extrapolate"):
            np.testing.assert_allclose(np.sum(gradient(mode) * direction), expected, rtol=1e-4)
