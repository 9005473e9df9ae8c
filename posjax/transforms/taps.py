"""Maps from inside of a network: what its named layers compute."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.transforms.interpret import Site, interpret, layers_named


class NamedLayer(str):
    """The name of a layer, with the `shape` of the last map that is computed under it."""

    shape: tuple[int, ...]

    def __new__(cls, name: str, shape: tuple[int, ...]) -> "NamedLayer":
        """The layer of this name and shape."""
        layer = super().__new__(cls, name)
        layer.shape = shape
        return layer


def layers_of(fn: Callable, *args: Any) -> list[NamedLayer]:
    """The layers of `fn` whose maps can be taken out by `maps_of`, in the order of their maps.

    A layer is a named scope, as every flax module is one, in which a map [n, h, w, c] is computed,
    outside of loops and branches. Nothing is computed.
    """
    names: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def watch(site: Site, results: Sequence[ArrayLike]) -> None:
        for name in _scopes(site):
            for result in results:
                if np.ndim(result) == 4:
                    names[name] = (site.path, np.shape(result))

    jax.eval_shape(interpret(fn, {}, watch=watch), *args)
    ordered = sorted(names.items(), key=lambda item: item[1][0])
    return [NamedLayer(name, shape) for name, (_, shape) in ordered]


def maps_of(fn: Callable, layers: Sequence[str]) -> Callable[..., dict[str, Float[Array, "..."]]]:
    """Returns a function of the same arguments that gives the maps of some layers: f1, f2, ….

    Args:
        fn: a function of pytrees of arrays.
        layers: names as `layers_of` lists them, ends of names, or patterns of either with `*` and
            `?`, which stand for no slash. The maps are numbered in the order of their computation.

    Raises:
        ValueError: when the result is called: a name or pattern fits no layer, or an end of a name
            fits several.
    """

    def stages(*args: Any) -> dict[str, Float[Array, "..."]]:
        chosen = _choose(layers_of(fn, *args), layers)
        maps: dict[str, Any] = {}

        def watch(site: Site, results: Sequence[ArrayLike]) -> None:
            for result in results:
                if np.ndim(result) == 4:
                    maps.update(dict.fromkeys(_scopes(site), result))

        interpret(fn, {}, watch=watch)(*args)
        digits = len(str(len(chosen)))  # JAX orders them by name
        return {f"f{number:0{digits}}": maps[name] for number, name in enumerate(chosen, 1)}

    return stages


def _choose(layers: Sequence[NamedLayer], names: Sequence[str]) -> list[str]:
    chosen = set()
    for name in names:
        fitting = layers_named(name, layers)
        is_pattern = not fitting and any(sign in name for sign in "*?[")
        if is_pattern:
            fitting = [layer for layer in layers if PurePosixPath(layer).match(name)]
        if not fitting or (len(fitting) > 1 and not is_pattern):
            listed = ", ".join(layers) or "none: the function has no named scopes"
            raise ValueError(f"stages: {name!r} names {len(fitting)} layers; there are {listed}")
        chosen |= set(fitting)
    return [str(layer) for layer in layers if layer in chosen]


def _scopes(site: Site) -> list[str]:
    """The scope of a site and all that enclose it."""
    return list(itertools.accumulate(site.names, "{}/{}".format))
