"""Random numbers that are the same whatever JAX's configuration says."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt

drawing = functools.partial(jax.threefry_partitionable, True)
"""A context for drawing from a `random_key`: bits come as they do under JAX's defaults."""


def random_key(seed: int | UInt[Array, ""]) -> Key[Array, ""]:
    """What `jax.random.key(seed)` is under JAX's defaults: threefry2x32, and no offset of seeds."""
    low = jnp.uint32(seed % 2**32 if isinstance(seed, int) else seed)
    return jax.random.wrap_key_data(jnp.stack([jnp.uint32(0), low]), impl="threefry2x32")
