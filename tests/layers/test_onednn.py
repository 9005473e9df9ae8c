"""oneDNN's convolutions: XLA's own, their gradients, and where they may not be called."""

import functools
import platform
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.layers import MODES, conv, onednn, pad
from posjax.layers.gradients import convolve

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="jaxlib contains oneDNN for x86 on Linux",
)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_programs_that_are_kept_do_not_call_it():
    assert jax.config.jax_compilation_cache_dir
    with onednn.allowed():
        assert not onednn.usable(draw(2))
        assert "onednn" not in text_of_gradients("zeros")


def test_where_it_is_allowed_programs_that_are_not_kept_do(nothing_kept):
    with onednn.allowed():
        assert onednn.usable(draw(2))
        assert not onednn.usable(draw(2).astype(jnp.bfloat16))
        assert not onednn.usable(draw(2), draw(0))
        # Forwards, to the map, and to the kernel.
        assert text_of_gradients("reflect").count("custom_call @__onednn$convolution") == 3
    # Elsewhere, what is traced by itself does not.
    assert "onednn" not in text_of_gradients("reflect")


def test_elsewhere_gradients_are_differentiated_again(nothing_kept):
    x, kernel = draw(1, 5, 6, 2), draw(3, 3, 2, 3)

    def penalty(f, kernel):
        return (jax.grad(lambda x: (f(x, kernel) ** 3).sum())(x) ** 2).sum()

    plain = functools.partial(convolve, stride=1, widths=((1, 1), (1, 1)))
    found, expected = (jax.grad(functools.partial(penalty, f))(kernel) for f in (conv, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3 * np.abs(expected).max())


def text_of_gradients(mode):
    x, kernel = draw(2, 9, 8, 3), draw(3, 3, 3, 4)
    loss = jax.jit(jax.grad(lambda *a: conv(*a, mode=mode).sum() ** 2, (0, 1)))
    return loss.lower(x, kernel).as_text()


def test_an_xla_that_does_not_know_it_is_noticed(nothing_kept, monkeypatch):
    monkeypatch.setattr(onednn, "_TARGET", "__onednn$unheard_of")
    assert not onednn._understood.__wrapped__()


def test_an_xla_that_was_not_tried_is_not_asked(nothing_kept, monkeypatch):
    monkeypatch.setattr("jaxlib.__version__", "0.99.0")
    monkeypatch.setattr(onednn, "convolve", None)
    assert not onednn._understood.__wrapped__()


@pytest.mark.parametrize(
    ("size", "taps", "stride", "widths"),
    [
        ((7, 9), (3, 3), 1, ((1, 1), (1, 1))),
        ((8, 9), (3, 3), 2, ((1, 1), (1, 1))),
        ((11, 8), (7, 7), 2, ((3, 3), (3, 3))),
        ((9, 8), (5, 3), 3, ((2, 2), (1, 1))),
        ((8, 7), (3, 5), 2, ((0, 0), (0, 0))),
        ((9, 10), (2, 3), 2, ((0, 1), (2, 0))),
        ((6, 7), (1, 1), 1, ((0, 0), (0, 0))),
    ],
)
def test_responses_and_gradients_are_those_of_xla(size, taps, stride, widths, nothing_kept):
    x, kernel = draw(3, *size, 4), draw(*taps, 4, 5, seed=1)
    y, back = jax.vjp(lambda x, kernel: convolve(x, kernel, stride, widths), x, kernel)
    dy = draw(*y.shape, seed=2)
    dx, dk = back(dy)
    how = {"stride": stride, "widths": widths}
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-4)
    close(jax.jit(functools.partial(onednn.conv, **how))(x, kernel), y)
    close(jax.jit(functools.partial(onednn.map_gradient, size=size, **how))(kernel, dy), dx)
    close(jax.jit(functools.partial(onednn.kernel_gradient, size=taps, **how))(x, dy), dk)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_under_every_mode_they_are_those_of_the_padded_map(mode, taps, stride, nothing_kept):
    x, kernel = draw(2, 9, 10, 3), draw(taps, taps, 3, 4, seed=1)
    ring = 0 if mode == "valid" else taps // 2
    inside = convolve(
        jnp.ones((1, 9, 10, 1)), jnp.ones((taps, taps, 1, 1)), stride, ((ring,) * 2,) * 2
    )
    scale = taps**2 / inside if mode == "partial" else 1

    def plain(x, kernel):
        padded = pad(x, ((ring, ring), (ring, ring)), mode)
        return scale * convolve(padded, kernel, stride, ((0, 0), (0, 0)))

    expected, back = jax.vjp(plain, x, kernel)
    dy = draw(*expected.shape, seed=2)

    @jax.jit
    def ours(x, kernel, dy):
        found, back = jax.vjp(functools.partial(conv, stride=stride, mode=mode), x, kernel)
        return found, *back(dy)

    with onednn.allowed():
        assert "onednn" in ours.lower(x, kernel, dy).as_text()
        found = ours(x, kernel, dy)
    for a, b in zip(found, (expected, *back(dy)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_batch_of_convolutions_is_one_after_the_other(nothing_kept):
    x, kernels = draw(2, 5, 6, 3), draw(4, 3, 3, 3, 2, seed=1)
    gradient = jax.grad(lambda kernel: (conv(x, kernel) ** 2).sum())
    with onednn.allowed():
        found = jax.jit(jax.vmap(gradient))(kernels)
    np.testing.assert_allclose(found, jnp.stack([gradient(k) for k in kernels]), rtol=1e-4)


@pytest.mark.parametrize("channels", [[1], [0, 1], [3]])
def test_what_is_no_number_stays_in_its_channel(channels, nothing_kept):
    x, dy = draw(2, 5, 6, 3), draw(2, 5, 6, 4).at[0, 0, 0, 0].set(-3)
    how = {"size": (3, 3), "stride": 1, "widths": ((1, 1), (1, 1))}
    gradient = jax.jit(functools.partial(onednn.kernel_gradient, **how))
    found = gradient(x, dy.at[0, 0, 0, jnp.array(channels)].set(jnp.nan))
    lost = np.isnan(found).any((0, 1, 2))
    np.testing.assert_array_equal(np.flatnonzero(lost), channels)
    rest = np.setdiff1d(range(4), channels)
    np.testing.assert_allclose(found[..., rest], gradient(x, dy)[..., rest], atol=1e-5)
