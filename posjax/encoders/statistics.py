"""Mean and deviation of the images that weights were trained on: encoders see normalised images."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

STATISTICS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
"""(mean, standard deviation) of R, G, B on [0, 1]; an encoder sees (image − mean) / deviation."""


def normalised(
    images: UInt8[jax.Array, "n h w 3"] | Float[jax.Array, "n h w 3"], statistics: str
) -> Float[jax.Array, "n h w 3"]:
    """Images of 8 bits a value, or floats in [0, 1], less the mean and over the deviation."""
    mean, std = (np.array(row, np.float32) for row in STATISTICS[statistics])
    floats = images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
    return (floats - mean) / std
