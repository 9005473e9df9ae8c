"""Convolution of readouts as a matrix product: a thousand channels in, a handful out.

`lax.conv_general_dilated` and its gradient are slow for so few outputs. Here one product gives the
response of every offset of the kernel to every pixel; small matrices then shift and sum them.
"""

from collections.abc import Sequence
from functools import partial, reduce

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from posjax.layers import Arrays, InputTooSmall, interpolation_matrix

_product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def conv_as_matmul(
    maps: Sequence[Float[Arrays, "n _ _ _"]],
    kernel: Float[Arrays, "kh kw c d"],
    *,
    size: tuple[int, int],
    padding: int = 0,
) -> Float[Array, "n h w d"]:
    """Convolves maps with zero padding, after they are resized to `size` and concatenated.

    The resize (bilinear, align_corners=True) is linear and the same for all channels. It follows
    the product with the kernel, because few channels are left there. Exact for maps in bfloat16
    too: nothing is rounded to less than the kernel's float32.

    Raises:
        InputTooSmall: the kernel does not fit into the padded map.
    """
    window = kernel.shape[:2]
    if min(n + 2 * padding - k for n, k in zip(size, window, strict=True)) < 0:
        raise InputTooSmall(
            f"a {window[0]}x{window[1]} kernel with padding {padding} does not fit into a map of "
            f"{size[0]}x{size[1]}"
        )
    kernels = jnp.split(kernel, np.cumsum([x.shape[-1] for x in maps])[:-1], axis=2)
    responses: dict[tuple[int, int], Array] = {}
    for x, part in zip(maps, kernels, strict=True):
        source, response = (x.shape[1], x.shape[2]), _project(x, part)
        responses[source] = responses[source] + response if source in responses else response
    shifted = (_shift_and_sum(r, source, size, padding) for source, r in responses.items())
    return reduce(jnp.add, shifted)


def _project(
    x: Float[Arrays, "n h w c"], kernel: Float[Array, "kh kw c d"]
) -> Float[Array, "nh w kh kw d"]:
    # The rows of all images are one axis: a TPU computes on 128 numbers of an axis at a time, and
    # a batch has fewer images. Maps are widened here and no earlier: where the TPU's compiler sees
    # that they were bfloat16, an exact product takes three passes instead of six.
    rows = jnp.reshape(x, (-1, *x.shape[2:])).astype(kernel.dtype)
    return _product("mwc,ijcd->mwijd", rows, kernel)


def _shift_and_sum(
    responses: Float[Array, "nh w kh kw d"],
    source: tuple[int, int],
    size: tuple[int, int],
    padding: int,
) -> Float[Array, "n h2 w2 d"]:
    kh, kw = responses.shape[2:4]
    columns = _shifts(source[1], size[1], kw, padding)
    summed = _product("mwijd,jyw->myid", responses, columns)
    rows = _shifts(source[0], size[0], kh, padding)
    return _product("nhyid,ixh->nxyd", summed.reshape(-1, source[0], *summed.shape[1:]), rows)


def _shifts(source: int, target: int, k: int, padding: int) -> Float[np.ndarray, "k t s"]:
    """For every offset of the kernel, the pixels that it meets after resize and padding."""
    resize = np.pad(interpolation_matrix(source, target, True), ((padding, padding), (0, 0)))
    return np.stack([resize[i : len(resize) - k + 1 + i] for i in range(k)]).astype(np.float32)
