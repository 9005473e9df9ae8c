"""Padding modes as data: one compiled encoder serves every mode that keeps the size of maps.

`padding` in words gives each layer a mode. Words that keep the size become integers, one for each
layer of `padded_layers`, and `with_modes` puts the integers into an encoder while it is traced.
"""

from functools import cache

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from posjax.encoders.aligned import AlignedEncoder
from posjax.encoders.blocks import abstract_init, mode_at
from posjax.encoders.wrapped import Wrapped
from posjax.layers import Arrays, Mode, mode_index
from posjax.layers.network_padding import VALID, Padding


def layer_modes(module: nn.Module | Wrapped, padding: Padding) -> Int[np.ndarray, " layers"]:
    """The integer of each layer's mode under `padding`, in the order of `layers_that_pad`.

    Layers that are `valid` get a 0 that is never read: they stay `valid` in words.
    """
    words = [padding(layer) for layer in layers_that_pad(module)]
    return np.array([0 if word == VALID else mode_index(word) for word in words], np.int32)


def with_modes(module: nn.Module | Wrapped, modes: Int[Arrays, " layers"]) -> nn.Module | Wrapped:
    """An encoder whose layers pad by `modes`, integers as `layer_modes` gives them.

    The integers may be tracers. Layers that are `valid` in the encoder's padding stay `valid`, and
    a `pool_padding` stays too.

    Raises:
        ValueError: there is not one mode for each layer that pads.
    """
    if isinstance(module, AlignedEncoder):
        return module.clone(encoder=with_modes(module.encoder, modes))
    modes, layers = jnp.asarray(modes), layers_that_pad(module)
    if modes.shape != (len(layers),):
        raise ValueError(f"modes must be [{len(layers)}], one for each layer, not {modes.shape}")

    def mode(layer: str) -> Mode:
        fixed = mode_at(module.padding, layer) == VALID
        return VALID if fixed else modes[layers.index(layer)]

    return module.clone(padding=mode)


@cache
def layers_that_pad(module: nn.Module | Wrapped) -> tuple[str, ...]:
    """The layers of an encoder that pad, by their names in PyTorch, from the image onwards."""
    if isinstance(module, Wrapped):
        return module.layers
    if isinstance(module, AlignedEncoder):
        return layers_that_pad(module.encoder)
    layers: dict[str, None] = {}

    def listen(layer: str) -> str:
        layers[layer] = None
        return "zeros"

    abstract_init(module.clone(padding=listen, pool_padding=None))
    return tuple(layers)
