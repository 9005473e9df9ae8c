"""Encoders on a CPU: wide 3x3 convolutions go by Winograd's filtering, which XLA lacks there.

The step that encodes puts it in, in one line; nothing else knows of it.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jax.typing import ArrayLike

from posjax.encoders.interpret import interpret
from posjax.layers.winograd import suits_winograd, winograd

_NHWC = lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))


def with_winograd(apply: Callable) -> Callable:
    """Returns `apply`, a function of arrays, with the convolutions that suit it by `winograd`."""
    return interpret(apply, {lax.conv_general_dilated_p: _convolve})


def _convolve(equation: JaxprEqn, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike] | None:
    x, kernel = inputs
    params = equation.params
    ones = (1, 1)
    plain = (
        x.dtype == kernel.dtype == jnp.float32
        and params["dimension_numbers"] == _NHWC
        and params["window_strides"] == params["lhs_dilation"] == params["rhs_dilation"] == ones
        and params["feature_group_count"] == params["batch_group_count"] == 1
    )
    if not plain:
        return None
    size = tuple(n + sum(pair) - 2 for n, pair in zip(x.shape[1:3], params["padding"], strict=True))
    return [winograd(x, kernel, params["padding"])] if suits_winograd(size, kernel.shape) else None
