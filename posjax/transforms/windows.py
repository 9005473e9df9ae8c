"""Windows over the border: convolutions and pools in a jaxpr that reach beyond their map."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core.primitives import (
    broadcast_in_dim_p,
    conv_general_dilated_p,
    convert_element_type_p,
    pad_p,
    reduce_window_max_p,
    reduce_window_sum_p,
)
from jax.typing import ArrayLike

from posjax.layers import Mode
from posjax.layers.conv import may_be_partial, partial_scale, scaled_if_partial
from posjax.layers.network_padding import LOWEST
from posjax.layers.padding import pad_axes
from posjax.transforms.interpret import Site, interpret

KINDS = {
    conv_general_dilated_p: "conv",
    reduce_window_max_p: "max_pool",
    reduce_window_sum_p: "avg_pool",
}

Widths = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Window:
    """A convolution or pool and the map that it pads, axis by axis.

    `mode` is how it pads: `zeros`, or `lowest`. `compute(map)` gives its response to a map that is
    padded already. `out_axes` are the axes of the response that belong to `axes` of the map.
    `transposed`: it has zeros between its pixels, or crops the map, and can only pad zeros.
    `counts`: its map is one number everywhere, as where an average leaves the border out.
    `is_inner` is that of its `Site`.
    """

    kind: str
    map: ArrayLike
    axes: tuple[int, ...]
    widths: Widths
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    out_axes: tuple[int, ...]
    mode: str
    transposed: bool
    compute: Callable[[ArrayLike], jax.Array]
    counts: bool = False
    is_inner: bool = False

    @property
    def size(self) -> tuple[int, ...]:
        """The size of the map before it is padded."""
        return tuple(np.shape(self.map)[axis] for axis in self.axes)

    def padded_by(self, mode: Mode) -> jax.Array:
        """The response where the map is padded by a mode that it is large enough for."""
        x = jnp.asarray(self.map)
        if isinstance(mode, str) and mode in ("zeros", "partial", LOWEST):
            padded = self._filled(x, -math.inf if mode == LOWEST else 0.0)
        else:
            padded = pad_axes(x, dict(zip(self.axes, self.widths, strict=True)), mode)
        response = self.compute(padded)
        if self.kind == "max_pool" or not may_be_partial(mode):
            return response
        return scaled_if_partial(response, self._partial_scale(response.ndim), mode)

    def _filled(self, x: jax.Array, value: float) -> jax.Array:
        widths = [(0, 0, 0)] * x.ndim
        for axis, (before, after) in zip(self.axes, self.widths, strict=True):
            widths[axis] = (before, after, 0)
        return lax.pad(x, jnp.asarray(value, x.dtype), widths)

    def _partial_scale(self, ndim: int) -> np.ndarray:
        """For each response, the taps of the kernel over those inside of the map."""
        scale = np.ones((1,) * ndim)
        geometry = zip(
            *(self.out_axes, self.size, self.widths, self.kernel, self.strides, self.dilation),
            strict=True,
        )
        for axis, *side in geometry:
            along = partial_scale(*side)
            scale = scale * along.reshape([len(along) if i == axis else 1 for i in range(ndim)])
        return scale


class Windows:
    """Hands each window over the border to `respond`, by the rules of an interpreter.

    `respond(site, window)` gives the response, or None where it is to stay as it is. A `jnp.pad`
    directly in front of a convolution or pool counts as its padding.
    """

    def __init__(self, respond: Callable[[Site, Window], jax.Array | None]):
        self._respond = respond
        # What `jnp.pad` gave, by the identity of the array: map, widths of its axes, constant.
        self._padded: dict[int, tuple[ArrayLike, ArrayLike, Widths, float]] = {}
        # Arrays of one number, by their identity.
        self._constant: dict[int, Any] = {}
        self._rules = {**dict.fromkeys(KINDS, self._window), pad_p: self._pad}
        self._follow = {
            convert_element_type_p: self._convert,
            broadcast_in_dim_p: self._broadcast,
        }

    def interpret(self, fn: Callable) -> Callable:
        """Returns `fn` with the responses that `respond` gives."""
        return interpret(fn, self._rules, follow=self._follow)

    def _pad(self, site: Site, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
        x, constant = inputs
        config = site.equation.params["padding_config"]
        result = pad_p.bind(x, constant, padding_config=config)
        plain = all(low >= 0 and high >= 0 and not inner for low, high, inner in config)
        if plain and not isinstance(constant, Tracer) and np.isrealobj(constant):
            widths = tuple((int(low), int(high)) for low, high, _ in config)
            value = float(np.asarray(constant))
            before = self._padded.get(id(x))
            if before is not None and before[3] == value:
                # One pad behind another, such as rows and then columns.
                x, inner = before[1:3]
                pairs = zip(inner, widths, strict=True)
                widths = tuple((a + c, b + d) for (a, b), (c, d) in pairs)
            self._padded[id(result)] = (result, x, widths, value)
        return [result]

    def _broadcast(self, site: Site, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike] | None:
        if len(inputs) != 1 or isinstance(inputs[0], Tracer) or np.ndim(inputs[0]):
            return None
        result = broadcast_in_dim_p.bind(*inputs, **site.equation.params)
        self._constant[id(result)] = result
        return [result]

    def _convert(self, site: Site, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike] | None:
        if id(inputs[0]) not in self._padded:
            return None
        _, x, widths, constant = self._padded[id(inputs[0])]
        convert = site.equation.params
        result, x = (convert_element_type_p.bind(value, **convert) for value in (inputs[0], x))
        self._padded[id(result)] = (result, x, widths, constant)
        return [result]

    def _window(self, site: Site, inputs: Sequence[ArrayLike]) -> Sequence[ArrayLike] | None:
        window = _read(site, inputs, self._padded.get(id(inputs[0])))
        if window is not None and id(inputs[0]) in self._constant:
            window = dataclasses.replace(window, counts=True)
        if window is None:
            return None
        response = self._respond(site, dataclasses.replace(window, is_inner=site.is_inner))
        return None if response is None else [response]


def _read(site: Site, inputs: Sequence[ArrayLike], padded: Any) -> Window | None:
    """The window of an equation, or None where it reaches beyond no border."""
    primitive, params = site.equation.primitive, site.equation.params
    is_conv = primitive is conv_general_dilated_p
    geometry = _of_conv(params, inputs) if is_conv else _of_pool(params)
    x, amounts = inputs[0], [(int(low), int(high)) for low, high in params["padding"]]
    outside = [(max(low, 0), max(high, 0)) for low, high in amounts]
    rest = tuple((min(low, 0), min(high, 0)) for low, high in amounts)
    present = LOWEST if primitive is reduce_window_max_p else "zeros"
    if padded is not None and not any(map(any, amounts)):
        _, before, widths, constant = padded
        mode = {0.0: "zeros", -math.inf: LOWEST}.get(constant)
        others = [pair for axis, pair in enumerate(widths) if axis not in geometry.axes]
        if mode in ("zeros", present) and not any(map(any, others)):
            x, outside, present = before, [widths[axis] for axis in geometry.axes], mode
    if not any(map(any, outside)):
        return None

    def compute(value: ArrayLike) -> jax.Array:
        return primitive.bind(value, *inputs[1:], **{**params, "padding": rest})

    # Batches and channels are axes of a pool too.
    chosen = [
        i for i, length in enumerate(geometry.kernel) if is_conv or length > 1 or any(outside[i])
    ]
    if not is_conv and len(geometry.axes) > 3 and chosen == [len(geometry.axes) - 1]:
        return None  # over channels, as local response normalisation
    axes, out_axes, kernel, strides, dilation, base = (
        tuple(values[i] for i in chosen) for values in geometry
    )
    return Window(
        kind=KINDS[primitive],
        map=x,
        axes=axes,
        widths=tuple(outside[i] for i in chosen),
        kernel=kernel,
        strides=strides,
        dilation=dilation,
        out_axes=out_axes,
        mode=present,
        transposed=any(step > 1 for step in base) or any(map(any, rest)),
        compute=compute,
    )


class _Geometry(NamedTuple):
    """For each axis that a window moves along: the axis, that of the response, and lengths."""

    axes: tuple[int, ...]
    out_axes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    base_dilation: tuple[int, ...]


def _of_conv(params: Mapping[str, Any], inputs: Sequence[ArrayLike]) -> _Geometry:
    numbers, shape = params["dimension_numbers"], np.shape(inputs[1])
    kernel = tuple(shape[axis] for axis in numbers.rhs_spec[2:])
    keys = ("window_strides", "rhs_dilation", "lhs_dilation")
    return _Geometry(numbers.lhs_spec[2:], numbers.out_spec[2:], kernel, *(params[k] for k in keys))


def _of_pool(params: Mapping[str, Any]) -> _Geometry:
    keys = ("window_dimensions", "window_strides", "window_dilation", "base_dilation")
    axes = tuple(range(len(params["padding"])))
    return _Geometry(axes, axes, *(params[key] for key in keys))
