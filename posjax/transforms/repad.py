"""`repad`: any JAX function under another padding mode."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Int

from posjax.layers import MODES, Arrays, InputTooSmall, Mode, check_fits
from posjax.layers.network_padding import LOWEST, Padding
from posjax.transforms.interpret import Site, layers_named
from posjax.transforms.windows import Window, Windows


class PaddedLayer(str):
    """The name of a convolution or pool that reaches beyond the border of its map.

    It is a text, with the layer's geometry: `kind` (`conv`, `max_pool` or `avg_pool`), and for
    each axis of the map `kernel`, `strides`, `widths` (before, after) and `size`, the map's before
    it is padded. `mode` is how the function pads it: `zeros`, or `lowest` (−inf).
    """

    kind: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    size: tuple[int, ...]
    mode: str
    transposed: bool

    def __new__(cls, name: str, window: Window) -> "PaddedLayer":
        """The layer of a window."""
        layer = super().__new__(cls, name)
        for field in ("kind", "kernel", "strides", "widths", "size", "mode", "transposed"):
            setattr(layer, field, getattr(window, field))
        return layer

    def counted_by(self, window: Window) -> bool:
        """Whether a window counts the pixels that this average pool averages."""
        alike = (self.kernel, self.strides, self.widths, self.size) == (
            *(window.kernel, window.strides, window.widths, window.size),
        )
        return window.counts and self.kind == window.kind == "avg_pool" and alike

    @property
    def name(self) -> str:
        """The name."""
        return str(self)


PaddingOfLayers = (
    str | Padding | Callable[[PaddedLayer], Mode] | int | np.integer | Int[Arrays, "*layers"]
)


def repad(fn: Callable, padding: PaddingOfLayers) -> Callable:
    """Returns `fn` with another padding mode around its convolutions and pools.

    Every convolution that pads zeros, by a parameter of its own or by a `jnp.pad` directly in front
    of it, and every max and average pool whose windows reach beyond the border is padded by the
    mode; the amounts stay. `partial` scales the response of a convolution or average pool, as
    `posjax.layers.conv` does. `mean` is taken along a convolution's spatial axes, and along those
    axes on which a pool's windows are longer than 1 or reach beyond the border. This reaches into
    `jit`, `checkpoint`, loops, branches, and functions with custom derivatives, which lose those
    where something inside pads.

    The result is a function of the same arguments and can be compiled, mapped and differentiated:
    `jax.grad(repad(f, …))`. A gradient cannot be repadded: repad the function first, then
    differentiate. Compile it by `jax.jit`, because uncompiled it is traced again in each call. A
    convolution that is written as a matrix product is no convolution to it. Padding that is
    computed before another operation is not seen, and `jax.vmap` puts one in between: map the
    repadded function instead. Under `zeros`, a max-pool sees zeros, not −inf.

    Args:
        fn: a function of pytrees of arrays. Bind other arguments by `functools.partial`.
        padding: a mode; a text such as `zeros+stem=reflect`, in which a layer may be named by the
            end of its name, and `lowest` is −inf for a max-pool; a function from a `PaddedLayer` to
            its mode; or integers as `posjax.layers.mode_index` gives them, one for all layers or
            one for each of `padded_layers`, which may be traced: one compilation then serves all
            modes. Whether a map is large enough for a traced integer is not checked.

    Raises:
        ValueError: when the result is called: a layer that the text names is not there, or fits
            several; a mode is unknown, or cannot pad the layer, as `valid`, which changes shapes,
            and every mode but `zeros` for a transposed convolution; integers do not fit the layers;
            `fn` is a gradient.
        InputTooSmall: a map is too small for a mode; names the layer (a ValueError too).
        NotImplementedError: a layer stands inside of a primitive that cannot be entered.
    """

    @functools.wraps(fn)
    def repadded(*args: Any, **kwargs: Any) -> Any:
        call = _of_arrays(fn)
        layers = layers_by_place(call, args, kwargs)
        unique = list(dict.fromkeys(layers.values()))
        modes = dict(zip(unique, _modes(padding, unique), strict=True))

        def respond(site: Site, window: Window) -> jax.Array | None:
            layer = layers[site.path]
            mode = modes[layer]
            if isinstance(mode, str) and mode == layer.mode:
                return None
            return window.padded_by(mode)

        return Windows(respond).interpret(call)(args, kwargs)

    return repadded


def padded_layers(fn: Callable, *args: Any, **kwargs: Any) -> list[PaddedLayer]:
    """The layers of `fn` that pad when it is called with these arguments, in their order.

    Each is its name, which knows the layer's geometry. The name is made of the named scopes around
    the layer, as flax's modules have them, joined by slashes; a pool's ends in its kind. Layers
    without a scope, and those that share one, are numbered. Nothing is computed.

    Raises:
        ValueError: `fn` is a gradient.
        NotImplementedError: a layer stands inside of a primitive that cannot be entered.
    """
    return list(dict.fromkeys(layers_by_place(_of_arrays(fn), args, kwargs).values()))


def _of_arrays(fn: Callable) -> Callable:
    return lambda args, kwargs: fn(*args, **kwargs)


def layers_by_place(
    call: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[tuple[int, ...], PaddedLayer]:
    """The layers by their place in the function."""
    places: dict[tuple[int, ...], tuple[str, Window]] = {}

    def listen(site: Site, window: Window) -> None:
        if "transpose(" in site.scope:
            raise ValueError(
                f"{site.scope} is the gradient of a layer: repad the function, then differentiate"
            )
        places[site.path] = (_scope(site, window), window)

    jax.eval_shape(Windows(listen).interpret(call), args, kwargs)
    shared = {s for s, n in Counter(s for s, w in places.values() if not w.counts).items() if n > 1}
    used = {scope for scope, _ in places.values()}
    layers: dict[tuple[int, ...], PaddedLayer] = {}
    # What counts pixels has the name of what it counts for.
    for path in sorted(places, key=lambda path: (places[path][1].counts, path)):
        scope, window = places[path]
        alike = [layer for layer in layers.values() if layer.counted_by(window)]
        if alike:
            layers[path] = alike[-1]
            continue
        name = scope
        if scope in shared or scope == window.kind:
            name = next(n for n in (f"{scope}_{i}" for i in itertools.count()) if n not in used)
        used.add(name)
        layers[path] = PaddedLayer(name, window)
    return dict(sorted(layers.items()))


def _scope(site: Site, window: Window) -> str:
    names = site.names
    return "/".join(names if names and window.kind == "conv" else (*names, window.kind))


def _modes(padding: PaddingOfLayers, layers: Sequence[PaddedLayer]) -> list[Mode]:
    """The mode of each layer.

    Raises:
        ValueError: as `repad`.
    """
    modes: list[Mode]
    if isinstance(padding, int | np.integer) and not isinstance(padding, bool):
        modes = [padding] * len(layers)
    elif isinstance(padding, jax.Array | np.ndarray):
        if padding.shape not in ((), (len(layers),)):
            raise ValueError(
                f"padding: expected one integer, or one for each of the {len(layers)} layers that "
                f"pad, found an array of shape {padding.shape}"
            )
        modes = [padding if padding.ndim == 0 else padding[i] for i in range(len(layers))]
    elif isinstance(padding, str | Padding):
        modes = _modes_of_text(Padding.parse(padding), layers)
    elif callable(padding):
        modes = [padding(layer) for layer in layers]
    else:
        raise ValueError(f"padding: expected a mode, a function or integers, found {padding!r}")
    for layer, mode in zip(layers, modes, strict=True):
        _check(layer, mode)
    return modes


def _modes_of_text(padding: Padding, layers: Sequence[PaddedLayer]) -> list[Mode]:
    if padding.alignment:
        raise ValueError(f"padding: {padding} has an alignment, which only encoders have")
    modes: dict[PaddedLayer, Mode] = dict.fromkeys(layers, padding.mode)
    for name, mode in padding.overrides:
        named = layers_named(name, layers)
        if len(named) != 1:
            raise ValueError(
                f"padding: {name!r} names {len(named)} layers; those that pad are "
                f"{', '.join(layers)}"
            )
        modes[named[0]] = mode
    return list(modes.values())


def _check(layer: PaddedLayer, mode: Mode) -> None:
    """Raises ValueError where a mode, in words or as a known integer, cannot pad a layer."""
    word = _word(mode)
    if layer.transposed and word != layer.mode:
        raise ValueError(
            f"layer {layer} is a transposed convolution, or crops its map: it can only pad zeros"
        )
    if word is None or (word == LOWEST and layer.kind == "max_pool"):
        return
    if word not in MODES:
        sized = [mode for mode in MODES if mode != "valid"]
        known = ", ".join([*sized, LOWEST] if layer.kind == "max_pool" else sized)
        raise ValueError(f"padding mode {word!r} of layer {layer} is unknown; expected {known}")
    if word == "valid":
        raise ValueError(
            f"layer {layer} cannot be valid: a function that is traced has its shapes built in"
        )
    for size, widths in zip(layer.size, layer.widths, strict=True):
        try:
            check_fits((size, 10**9), (widths, (0, 0)), word)
        except InputTooSmall as error:
            raise InputTooSmall(f"layer {layer}: {error}") from error


def _word(mode: Mode) -> str | None:
    """The mode in words, or None where it is traced."""
    if isinstance(mode, Tracer):
        return None
    is_integer = isinstance(mode, int | np.integer | jax.Array | np.ndarray)
    return MODES[int(mode)] if is_integer and 0 <= int(mode) < len(MODES) else str(mode)
