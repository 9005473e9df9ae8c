"""Convolutions by oneDNN, which lies in XLA's CPU backend unused.

jaxlib for x86 contains oneDNN, the library behind PyTorch's convolutions, and XLA calls it where a
program says so by name; none of XLA's own passes does. It is about twice as fast as what XLA takes
instead. Of the gradients, too: both are convolutions again, for which one operand of one of them is
turned round, while XLA copies or turns round all that it sums over.
"""

import contextlib
import contextvars
import functools
import json
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from posjax.layers.padding import Widths

_ALLOWED = contextvars.ContextVar("oneDNN allowed", default=False)
_TARGET = "__onednn$convolution"
# The call is not documented, and what another XLA takes for a mistake ends the process.
_KNOWN = ("0.10.2",)
_TOGETHER = 16  # images whose products are added up in registers


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Lets gradients that are taken within call oneDNN, where they can.

    Such gradients cannot be differentiated again, nor their programs exported or written to disk
    (XLA takes the call for one of another kind and reads memory that is not there), and JAX runs
    them on the whole batch on each device unless it is shared out by `pmap` or `shard_map`. JAX
    keeps what it has traced, and does not know of this: of a function that is wrapped in `jit` or
    `checkpoint`, use one within and another one, wrapped by itself, elsewhere.
    """
    before = _ALLOWED.set(True)
    try:
        yield
    finally:
        _ALLOWED.reset(before)


def usable(*arrays: ArrayLike) -> bool:
    """Whether gradients of these arrays may call oneDNN: in `allowed`, on a CPU, in float32.

    Not where JAX keeps compiled programs on disk, see there: where `jax_compilation_cache_dir` is
    set.
    """
    kept = jax.config.jax_compilation_cache_dir and jax.config.jax_enable_compilation_cache
    if not _ALLOWED.get() or kept or jax.default_backend() != "cpu":
        return False
    return all(a.dtype == jnp.float32 and a.size > 0 for a in arrays) and _understood()


def convolve(
    x: Float[Array, "n *size c"],
    kernel: Float[Array, "*taps_and_c d"],
    strides: Sequence[int],
    widths: Sequence[tuple[int, int]],
    dilations: Sequence[int],
    channels: int | None = None,
) -> Float[Array, "n *size2 d"]:
    """Convolution over one to three axes, with `widths` zeros around the map, on a CPU.

    `channels` tells which axis of the kernel are the map's channels, if not the last but one.
    """
    channels = kernel.ndim - 2 if channels is None else channels
    axes = [axis for axis in range(kernel.ndim - 1) if axis != channels]
    sizes = [
        (length + sum(pair) - dilation * (kernel.shape[axis] - 1) - 1) // stride + 1
        for length, pair, axis, stride, dilation in zip(
            x.shape[1:-1], widths, axes, strides, dilations, strict=True
        )
    ]
    call = jax.ffi.ffi_call(
        _TARGET,
        jax.ShapeDtypeStruct((x.shape[0], *sizes, kernel.shape[-1]), x.dtype),
        vmap_method="sequential",
        custom_call_api_version=2,
        legacy_backend_config=_description(axes, channels, strides, widths, dilations),
    )
    return call(x, kernel)


def conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: int, widths: Widths
) -> Float[Array, "n h2 w2 d"]:
    """As `posjax.layers.gradients.convolve`."""
    return convolve(x, kernel, (stride, stride), widths, (1, 1))


def map_gradient(
    kernel: Float[Array, "kh kw c d"],
    dy: Float[Array, "n h2 w2 d"],
    size: tuple[int, int],
    stride: int,
    widths: Widths,
) -> Float[Array, "n h w c"]:
    """The gradient of `conv` to its map, which has `size` pixels; `stride` is at most the taps.

    With a stride, what a pixel sees depends on where it lies between the pixels that taps start
    from. All such columns are channels of one convolution of `dy`, so that they come out side by
    side; such rows take one convolution each.
    """
    n, c = dy.shape[0], kernel.shape[2]
    height, width = (-(-length // stride) for length in size)
    down, across = (
        _between(taps, stride, before)
        for taps, (before, _) in zip(kernel.shape[:2], widths, strict=True)
    )
    # The last tap, -1, is none.
    taps = jnp.pad(kernel.swapaxes(2, 3), ((0, 1), (0, 1), (0, 0), (0, 0)))
    first, columns = _table(across)
    rows = []
    for seen in down:
        top, (row,) = _table([seen])
        chosen = jnp.moveaxis(taps[row[:, None, None], columns.T[None]], 2, 3)
        part, around = dy, []
        for axis, start, window, length in ((1, top, row, height), (2, first, columns.T, width)):
            before, after = -start, length + start + len(window) - 1 - dy.shape[axis]
            part = lax.slice_in_dim(
                part, max(-before, 0), dy.shape[axis] + min(after, 0), axis=axis
            )
            around.append((max(before, 0), max(after, 0)))
        found = conv(part, chosen.reshape(*chosen.shape[:3], -1), 1, tuple(around))
        rows.append(found.reshape(n, height, width * stride, c))
    dx = jnp.stack(rows, axis=2).reshape(n, height * stride, width * stride, c)
    return dx[:, : size[0], : size[1]]


def kernel_gradient(
    x: Float[Array, "n h w c"],
    dy: Float[Array, "n h2 w2 d"],
    size: tuple[int, int],
    stride: int,
    widths: Widths,
) -> Float[Array, "kh kw c d"]:
    """The gradient of `conv` to its kernel of `size`.

    The sum over images, rows and columns is the convolution of one map of those three axes and one
    channel, whose kernel is `dy`: columns and channels of `x` are one axis of it, in which a step
    is a channel and a tap comes every `stride` * c. Some of the images, though, are channels of
    that map, the only copy of `x` that pays: what is added up over channels stays in registers.
    """
    n, height, width, c = x.shape
    # What lies beyond the last tap.
    rest = [
        taps + (length - 1) * stride - before - whole
        for taps, length, whole, (before, _) in zip(
            size, dy.shape[1:3], x.shape[1:3], widths, strict=True
        )
    ]
    (top, _), (left, _) = widths
    around = ((0, 0), (top, max(rest[0], 0)), (left * c, max(rest[1], 0) * c))
    together = math.gcd(n, _TOGETHER)
    groups = (n // together, together)

    def by_channels(x: Array, dy: Array) -> Array:
        x = x[:, : height + min(rest[0], 0), : width + min(rest[1], 0)]
        rows = x.shape[1]
        x = x.reshape(*groups, -1).swapaxes(1, 2).reshape(1, groups[0], rows, -1, together)
        dy = dy.reshape(*groups, *dy.shape[1:])
        found = convolve(x, dy, (1, 1, 1), around, (1, stride, stride * c), channels=1)
        return found.reshape(*size, c, dy.shape[-1])

    def nothing(x: Array, dy: Array) -> Array:
        return jnp.zeros((*size, c, dy.shape[-1]), x.dtype)

    # A branch, because it takes its operands from memory. Otherwise XLA computes them once more for
    # this shape of theirs, all layers of a ResNet's stage in one. It is always taken, which XLA
    # must not see.
    return lax.cond(jnp.abs(dy[0, 0, 0, 0]) < -1, nothing, by_channels, x, dy)


def _between(taps: int, stride: int, before: int) -> list[dict[int, int]]:
    """For each place between the pixels of a stride: the tap by which each response sees it.

    Responses are counted from that of the place's own number.
    """
    return [
        {
            (place + before - tap) // stride: tap
            for tap in range(taps)
            if (place + before - tap) % stride == 0
        }
        for place in range(stride)
    ]


def _table(seen: list[dict[int, int]]) -> tuple[int, Int[np.ndarray, "places window"]]:
    """The first response that any place sees, and the taps of all from there on; -1 is none."""
    first, last = min(map(min, seen)), max(map(max, seen))
    return first, np.array([[s.get(at, -1) for at in range(first, last + 1)] for s in seen])


@functools.cache
def _understood() -> bool:
    """Whether this XLA knows the call, and computes what is asked."""
    if jaxlib.__version__ not in _KNOWN:
        return False
    rng = np.random.default_rng(0)
    x, kernel = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((2, 3, 7, 9, 4), (2, 4, 3, 3, 5))
    )
    widths, strides, dilations = ((0, 0), (1, 2), (3, 0)), (1, 2, 1), (1, 1, 2)

    def ours(x: Array, kernel: Array) -> Array:
        return convolve(x, kernel, strides, widths, dilations, channels=1)

    def xlas(x: Array, kernel: Array) -> Array:
        numbers = ("NDHWC", "DIHWO", "NDHWC")
        return lax.conv_general_dilated(
            x, kernel, strides, widths, rhs_dilation=dilations, dimension_numbers=numbers
        )

    # Compiled ahead of time: it may be asked while something else is traced.
    try:
        found = jax.jit(ours).lower(x, kernel).compile()(x, kernel)
    except jax.errors.JaxRuntimeError:
        return False
    expected = jax.jit(xlas).lower(x, kernel).compile()(x, kernel)
    return np.allclose(found, expected, atol=1e-4)


def _description(
    axes: Sequence[int],
    channels: int,
    strides: Sequence[int],
    widths: Sequence[tuple[int, int]],
    dilations: Sequence[int],
) -> str:
    """What XLA reads of a convolution: `OneDnnConvolutionConfig` of its onednn_config.proto.

    `axes` and `channels` are those of the kernel.
    """
    rank = len(axes) + 2
    spatial = {"batch_dim": 0, "feature_dim": rank - 1, "spatial_dims": list(range(1, rank - 1))}
    layout = {"dims": rank, "data": spatial}
    taps = {
        "input_feature_dim": channels,
        "output_feature_dim": rank - 1,
        "spatial_dims": list(axes),
    }
    window = {
        "strides": list(strides),
        "pad_left": [before for before, _ in widths],
        "pad_right": [after for _, after in widths],
        "window_dilations": list(dilations),
    }
    config = {
        "dims": rank,
        "feature_groups": 1,
        "input": layout,
        "output": layout,
        "kernel": {"dims": rank, "filter": taps},
        "window": window,
    }
    return json.dumps({"onednn_conv_config": config})
