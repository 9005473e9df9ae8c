"""Encoders on a CPU: faster ways for convolutions that XLA is slow at.

The step that encodes calls `quick_on_cpu`; nothing else uses it.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from posjax.layers.winograd import suits_winograd, winograd
from posjax.transforms import Site, interpret

_NHWC = lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))


def quick_on_cpu(apply: Callable) -> Callable:
    """Returns `apply`, a function of arrays, with convolutions that are fast on a CPU.

    3x3 convolutions of many channels become `winograd`. Where a kernel is larger than its map, the
    map is padded first: XLA takes twenty times as long for a convolution that pads.
    """
    return interpret(apply, {lax.conv_general_dilated_p: _convolve})


def _convolve(site: Site, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike] | None:
    x, kernel = map(jnp.asarray, inputs)
    params = site.equation.params
    widths, strides, ones = params["padding"], params["window_strides"], (1, 1)
    plain = (
        x.dtype == kernel.dtype == jnp.float32
        and params["dimension_numbers"] == _NHWC
        and params["lhs_dilation"] == params["rhs_dilation"] == ones
        and params["feature_group_count"] == params["batch_group_count"] == 1
    )
    if not plain:
        return None
    height, width = (int(n + sum(p)) - 2 for n, p in zip(x.shape[1:3], widths, strict=True))
    if strides == ones and suits_winograd((height, width), kernel.shape):
        return [winograd(x, kernel, widths)]
    if any(k > n for k, n in zip(kernel.shape[:2], x.shape[1:3], strict=True)):
        padded = jnp.pad(x, ((0, 0), *widths, (0, 0)))
        return [lax.conv_general_dilated(padded, kernel, strides, "VALID", dimension_numbers=_NHWC)]
    return None
