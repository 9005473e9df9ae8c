"""Encoders some of whose channels are silenced: they say the same at every place."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posjax import encoders
from posjax.encoders import OWN, Encoder, Network, Wrapped
from posjax.transforms import Window, at_padded_layers

AWARE, ALIKE = "aware_silenced", "random_silenced"
"""The controls by which results tell which channels are silenced."""
Channels = Mapping[str, Sequence[int]]
"""By layer, some of its channels."""


def silenced(
    encoder: Encoder,
    choices: Sequence[Channels],
    means: Mapping[str, Float[np.ndarray, " c"]],
    size: int,
) -> list[Encoder]:
    """For each choice, the encoder with the responses of these channels set to their mean.

    The mean, and not 0: BatchNorm and biases that follow a convolution would turn 0 into a shift,
    which all layers above would see. `means` has those of all channels, by layer. What is silenced
    is data: one compilation serves all choices. `size` is the side of the images, pixels.
    """
    variables = [_variables(encoder, channels, means) for channels in choices]
    function = _silencing(encoder.network.clone(padding="zeros"))
    about = {"name": encoder.name, "normalize": encoder.normalize, "image_size": size}
    wrapped = encoders.wrap(function, variables[0], **about).network
    made = [
        encoders.frozen(
            cast(Wrapped, wrapped.clone(variables=one)),
            OWN,
            encoder.padding_text,
            pool_padding=encoder.pool_padding,
        )
        for one in variables
    ]
    kept = {"weights": encoder.weights, "seed": encoder.seed, "dtype": encoder.dtype}
    return [dataclasses.replace(one, **kept) for one in made]


def _variables(encoder: Encoder, channels: Channels, means: Mapping[str, np.ndarray]) -> Any:
    keep = {layer: np.ones_like(mean) for layer, mean in means.items()}
    for layer, chosen in channels.items():
        keep[layer][list(chosen)] = 0
    fill = {layer: mean * (1 - keep[layer]) for layer, mean in means.items()}
    return {"network": encoder.variables, "keep": keep, "fill": fill}


# Cached, because one function is compiled once.
@functools.cache
def _silencing(network: Network) -> Callable[[Any, jax.Array], encoders.Stages]:
    def stages(variables: Any, images: jax.Array) -> encoders.Stages:
        def respond(layer: str, window: Window) -> jax.Array | None:
            if str(layer) not in variables["keep"]:
                return None
            response = jnp.moveaxis(window.padded_by("zeros"), window.out_axes, (1, 2))
            keep, fill = (variables[k][layer].astype(response.dtype) for k in ("keep", "fill"))
            return jnp.moveaxis(response * keep + fill, (1, 2), window.out_axes)

        return at_padded_layers(network.apply, respond)(variables["network"], images)

    return stages


def draw_alike(chosen: Channels, sizes: Mapping[str, int], seed: int) -> dict[str, tuple[int, ...]]:
    """As many other channels of the same layers, drawn at random.

    `sizes` are the numbers of channels of the layers. Chosen channels are drawn only where too few
    others are there.
    """
    rng = np.random.default_rng(seed)
    drawn = {}
    for layer, channels in chosen.items():
        order = rng.permutation(sizes[layer])
        is_chosen = np.isin(order, channels)
        others_first = [*order[~is_chosen], *order[is_chosen]]
        drawn[layer] = tuple(sorted(int(c) for c in others_first[: len(channels)]))
    return drawn
