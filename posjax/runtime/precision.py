"""How coarsely an encoder computes: its dtype, and what the device makes of a product."""

import jax
import jax.numpy as jnp

PRECISIONS = ("default", "high", "highest")
TENSORFLOAT32_STEP = 2.0**-10
# Where products of float32 are coarser than float32, by platform and precision.
_COARSE = {
    ("tpu", "default"): float(jnp.finfo(jnp.bfloat16).eps),
    ("gpu", "default"): TENSORFLOAT32_STEP,
    ("gpu", "high"): TENSORFLOAT32_STEP,
}


def matmul_precision() -> str:
    """JAX's default precision of products in force, one of `PRECISIONS`.

    `bfloat16`, `tensorfloat32` and `float32` are JAX's other names for them. An algorithm keeps its
    name.
    """
    precision = jax.config.values["jax_default_matmul_precision"]
    try:
        return jax.lax.Precision(precision).name.lower()
    except ValueError:
        return str(precision)


def rounding_step(dtype: str, platform: str, precision: str) -> float:
    """The distance from 1 to the next number, as coarsely as an encoder rounds on the way.

    A TPU multiplies float32 in bfloat16, and a GPU in tensorfloat32, where the precision lets them
    (see `jax.lax.Precision`). `platform` is that of a `jax.Device`; a `precision` that is none of
    `PRECISIONS` is taken for the default.
    """
    of_dtype = float(jnp.finfo(dtype).eps)
    known = precision if precision in PRECISIONS else "default"
    return max(of_dtype, _COARSE.get((platform, known), of_dtype))
