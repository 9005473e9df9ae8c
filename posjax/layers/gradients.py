"""The gradients of a convolution, where XLA's own are slow on a CPU."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from posjax.layers import onednn
from posjax.layers.padding import Widths

# What one step of the sum over images may take, in bytes: about what stays in a CPU's caches.
_BLOCK = 6 << 20


def convolve(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: int, widths: Widths
) -> Float[Array, "n h2 w2 d"]:
    """XLA's convolution, with `widths` zeros around the map."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), widths, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv_gradients(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c d"],
    dy: Float[Array, "n h2 w2 d"],
    stride: int,
    widths: Widths,
) -> tuple[Float[Array, "n h w c"], Float[Array, "kh kw c d"]]:
    """The gradients of `convolve` to the map and to the kernel.

    Both are oneDNN's where it can be used. Otherwise that to the kernel is on a CPU a product of
    matrices, see `kernel_gradient`: XLA would turn the activations round, images innermost, which
    takes longer than the convolution.
    """
    how = {"stride": stride, "widths": widths}

    def map_by_xla(kernel: Array, dy: Array) -> Array:
        return jax.vjp(lambda x: convolve(x, kernel, **how), x)[1](dy)[0]

    def kernel_by_xla(x: Array, dy: Array) -> Array:
        return jax.vjp(lambda kernel: convolve(x, kernel, **how), kernel)[1](dy)[0]

    size = kernel.shape[:2]
    to_map, to_kernel = map_by_xla, functools.partial(kernel_gradient, size=size, **how)
    if onednn.usable(x, kernel, dy):
        if min(size) >= stride:
            to_map = functools.partial(onednn.map_gradient, size=x.shape[1:3], **how)
        # A kernel of one pixel is one product already.
        if max(size) > 1:
            to_kernel = functools.partial(onednn.kernel_gradient, size=size, **how)
    dx = lax.platform_dependent(kernel, dy, cpu=to_map, default=map_by_xla)
    return dx, lax.platform_dependent(x, dy, cpu=to_kernel, default=kernel_by_xla)


def kernel_gradient(
    x: Float[Array, "n h w c"],
    dy: Float[Array, "n h2 w2 d"],
    size: tuple[int, int],
    stride: int,
    widths: Widths,
) -> Float[Array, "kh kw c d"]:
    """The gradient to a kernel of `size`, as products of the shifted maps, few images at a time.

    With stride 1 the columns' shifts are made of `x` and the rows' of `dy`, so that both sides of
    the product are as wide, and fewer shifts are copied. With others all are made of `x`.
    """
    kh, kw = size
    n, height, width, d = dy.shape
    c = x.shape[-1]
    x = jnp.pad(x, ((0, 0), *widths, (0, 0)))
    of_rows, of_columns = range(kh), range(kw)
    if stride == 1:
        # Row r of the padded map is that of tap i of response row r - i.
        padded = jnp.pad(dy, ((0, 0), (kh - 1, kh - 1), (0, 0), (0, 0)))
        rows = x.shape[1]
        lefts = [lambda a, j=j: a[:, :, j : j + width] for j in of_columns]
        rights = [lambda b, i=i: b[:, kh - 1 - i : kh - 1 - i + rows] for i in of_rows]
    else:
        padded = dy
        lefts = [
            lambda a, i=i, j=j: a[
                :,
                i : i + (height - 1) * stride + 1 : stride,
                j : j + (width - 1) * stride + 1 : stride,
            ]
            for i in of_rows
            for j in of_columns
        ]
        rights = [lambda b: b]

    wide, narrow = len(lefts) * c, len(rights) * d
    sums = jnp.promote_types(x.dtype, jnp.float32)

    def product(a: Array, b: Array) -> Array:
        # As two matrices: more axes to sum over, and XLA would turn one side round.
        left, right = (
            jnp.concatenate([shift(part) for shift in shifts], axis=-1).reshape(-1, columns)
            for part, shifts, columns in ((a, lefts, wide), (b, rights, narrow))
        )
        return lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=sums)

    bytes_each = 4 * (wide + narrow) * (height + kh - 1) * width
    count = _divisor(n, max(_BLOCK // bytes_each, 1))
    blocks = tuple(a.reshape(n // count, count, *a.shape[1:]) for a in (x, padded))
    start = jnp.zeros((wide, narrow), sums)
    total, _ = lax.scan(lambda total, pair: (total + product(*pair), None), start, blocks)
    if stride == 1:
        found = total.reshape(kw, c, kh, d).transpose(2, 0, 1, 3)
    else:
        found = total.reshape(kh, kw, c, d)
    return found.astype(x.dtype)


def _divisor(n: int, most: int) -> int:
    """The largest divisor of `n` up to `most`."""
    return max((i for i in range(1, min(n, most) + 1) if n % i == 0), default=1)
