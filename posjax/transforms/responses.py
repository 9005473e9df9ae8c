"""Other responses for the layers of a function that pad."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from posjax.transforms.repad import PaddedLayer, layers_by_place
from posjax.transforms.windows import Window, Windows


def at_padded_layers(
    fn: Callable, respond: Callable[[PaddedLayer, Window], jax.Array | None]
) -> Callable:
    """Returns `fn` with the responses that `respond` gives to the layers of `padded_layers`.

    Where it gives None, the layer's own response stays. The result raises as `padded_layers`.
    """

    @functools.wraps(fn)
    def responded(*args: Any, **kwargs: Any) -> Any:
        def call(args: Any, kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        layers = layers_by_place(call, args, kwargs)
        windows = Windows(lambda site, window: respond(layers[site.path], window))
        return windows.interpret(call)(args, kwargs)

    return responded
