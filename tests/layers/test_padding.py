"""Padding modes: numpy's where numpy has them, and refusals that say which size would do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posjax.layers import MODES, InputTooSmall, check_mode, mode_index, pad, smallest_size

NUMPY = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
    "partial": "constant",
}
# The smallest map that a mode can pad by a width: mirrors and wraps happen once at most.
SMALLEST = {
    "zeros": lambda width: 1,
    "reflect": lambda width: width + 1,
    "replicate": lambda width: 1,
    "circular": lambda width: max(width, 1),
    "symmetric": lambda width: max(width, 1),
    "partial": lambda width: 1,
}
widths = st.tuples(st.integers(0, 4), st.integers(0, 4))
few = settings(max_examples=6, deadline=None)


def image(height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((2, height, width, 3)).astype(np.float32)


def test_the_modes_are_the_seven_of_the_design():
    assert sorted(MODES) == sorted([*NUMPY, "valid"])
    assert [check_mode(mode) for mode in MODES] == list(MODES)


@pytest.mark.parametrize(
    ("mode", "row"),
    [
        ("zeros", "00123400"),
        ("reflect", "32123432"),
        ("replicate", "11123444"),
        ("circular", "34123412"),
        ("symmetric", "21123443"),
        ("partial", "00123400"),
        ("valid", "1234"),
    ],
)
def test_the_row_of_the_docstring(mode, row):
    x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 4, 1)
    padded = pad(x, ((0, 0), (2, 2)), mode)
    assert "".join(f"{value:.0f}" for value in np.ravel(padded)) == row


@pytest.mark.parametrize("mode", NUMPY)
@few
@given(rows=widths, columns=widths, more=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_every_mode_is_that_of_numpy_at_asymmetric_widths(mode, rows, columns, more):
    size = [SMALLEST[mode](max(pair)) + m for pair, m in zip((rows, columns), more, strict=True)]
    x = image(*size)
    padded = jax.jit(pad, static_argnums=(1, 2))(x, (rows, columns), mode)
    expected = np.pad(x, ((0, 0), rows, columns, (0, 0)), mode=NUMPY[mode])
    np.testing.assert_array_equal(padded, expected)


@few
@given(rows=widths, columns=widths)
def test_valid_ignores_the_widths(rows, columns):
    x = image(2, 3)
    np.testing.assert_array_equal(pad(x, (rows, columns), "valid"), x)


@pytest.mark.parametrize("mode", NUMPY)
def test_bfloat16_stays_bfloat16(mode):
    x = jax.numpy.asarray(image(3, 4), "bfloat16")
    padded = pad(x, ((1, 2), (2, 1)), mode)
    assert padded.dtype == "bfloat16"
    expected = np.pad(np.float32(x), ((0, 0), (1, 2), (2, 1), (0, 0)), mode=NUMPY[mode])
    np.testing.assert_array_equal(np.float32(padded), expected)


@pytest.mark.parametrize("mode", NUMPY)
@few
@given(pair=widths)
def test_smallest_size_depends_on_the_wider_side(mode, pair):
    assert smallest_size(pair, mode) == SMALLEST[mode](max(pair))


def test_valid_pads_any_map():
    assert smallest_size((3, 3), "valid") == 1


@pytest.mark.parametrize("mode", ["reflect", "circular", "symmetric"])
@few
@given(pair=st.tuples(st.integers(0, 5), st.integers(2, 5)), axis=st.sampled_from([0, 1]))
def test_a_map_too_small_is_refused_with_the_smallest_size_which_works(mode, pair, axis):
    smallest = SMALLEST[mode](max(pair))
    sides = [(0, 0), (0, 0)]
    sides[axis] = pair

    def padded(size):
        x = image(*((size, 3) if axis == 0 else (3, size)))
        return jax.eval_shape(lambda x: pad(x, tuple(sides), mode), x)

    words = f"{mode} .*{('height', 'width')[axis]} {smallest} or more, found {smallest - 1}"
    with pytest.raises(InputTooSmall, match=words):
        padded(smallest - 1)
    assert padded(smallest).shape[1 + axis] == smallest + sum(pair)


def test_too_small_is_a_value_error():
    with pytest.raises(ValueError, match="3 or more"):
        pad(image(2, 2), ((2, 2), (2, 2)), "reflect")


@few
@given(mode=st.text(max_size=8).filter(lambda mode: mode not in MODES))
def test_an_unknown_mode_is_refused_with_the_known_ones(mode):
    for refuse in (check_mode, lambda mode: pad(image(4, 4), ((1, 1), (1, 1)), mode)):
        with pytest.raises(ValueError, match="is unknown") as caught:
            refuse(mode)
        assert repr(mode) in str(caught.value)
        assert all(known in str(caught.value) for known in MODES)


@pytest.mark.parametrize("mode", MODES)
@few
@given(place=st.integers(0, 3), negative=st.integers(-4, -1))
def test_a_negative_width_is_refused(mode, place, negative):
    sides = [1, 1, 1, 1]
    sides[place] = negative
    with pytest.raises(ValueError, match=f"must not be negative.*{negative}"):
        pad(image(4, 4), (tuple(sides[:2]), tuple(sides[2:])), mode)


@pytest.mark.parametrize("mode", NUMPY)
@few
@given(rows=widths, columns=widths, more=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_a_mode_that_is_an_integer_pads_as_its_word(mode, rows, columns, more):
    size = [SMALLEST[mode](max(pair)) + m for pair, m in zip((rows, columns), more, strict=True)]
    x = image(*size)
    padded = jax.jit(pad, static_argnums=1)(x, (rows, columns), jnp.int32(mode_index(mode)))
    expected = np.pad(x, ((0, 0), rows, columns, (0, 0)), mode=NUMPY[mode])
    np.testing.assert_array_equal(padded, expected)


def test_one_compiled_program_pads_under_every_mode():
    x = image(5, 6)
    compiled = jax.jit(lambda x, mode: pad(x, ((2, 1), (1, 3)), mode))
    for mode in NUMPY:
        expected = np.pad(x, ((0, 0), (2, 1), (1, 3), (0, 0)), mode=NUMPY[mode])
        np.testing.assert_array_equal(compiled(x, jnp.int32(mode_index(mode))), expected)


def test_one_map_is_padded_under_many_modes_at_once():
    x, modes = image(4, 4), np.array([mode_index(mode) for mode in NUMPY], np.int32)
    padded = jax.vmap(lambda mode: pad(x, ((1, 2), (2, 1)), mode))(modes)
    for one, mode in zip(padded, NUMPY, strict=True):
        expected = np.pad(x, ((0, 0), (1, 2), (2, 1), (0, 0)), mode=NUMPY[mode])
        np.testing.assert_array_equal(one, expected)


def test_a_mode_of_the_padding_that_nobody_chose_spoils_nothing():
    # Infinite features at a border do not reach what zeros put beyond it.
    x = np.full((1, 3, 3, 1), np.inf, np.float32)
    padded = pad(x, ((1, 1), (1, 1)), jnp.int32(mode_index("zeros")))
    np.testing.assert_array_equal(padded[0, 0, :, 0], np.zeros(5))


@pytest.mark.parametrize("mode", NUMPY)
def test_the_gradient_adds_what_stands_beyond_the_border_to_its_source(mode):
    widths = ((1, 2), (2, 0))
    x, moved = image(4, 5), image(7, 7, seed=1)
    for chosen in (mode, jnp.int32(mode_index(mode))):
        gradient = jax.grad(lambda x, m=chosen: jnp.sum(pad(x, widths, m) * moved))(x)
        # The padding is linear: along any direction the slope is the padded direction's.
        direction = image(4, 5, seed=2)
        expected = np.sum(
            np.pad(direction, ((0, 0), *widths, (0, 0)), mode=NUMPY[mode]) * np.float64(moved)
        )
        np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-4)


def test_valid_is_no_integer():
    with pytest.raises(ValueError, match="'valid' changes the size"):
        mode_index("valid")
    with pytest.raises(ValueError, match="is unknown"):
        mode_index("same")
