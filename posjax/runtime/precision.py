"""How coarsely an encoder computes: its dtype, and what the device makes of a product."""

import jax
import jax.numpy as jnp

PRECISIONS = ("default", "high", "highest")
# Where products of float32 are coarser than float32, by platform and precision.
_COARSE = {
    ("tpu", "default"): float(jnp.finfo(jnp.bfloat16).eps),
    ("gpu", "default"): 2.0**-10,  # tensorfloat32
    ("gpu", "high"): 2.0**-10,
}
# Aids for finding bugs under which no run gets to its end, with the values that it needs.
_NEEDED = {
    "jax_debug_nans": (False,),  # an SPC that is undefined is NaN
    "jax_no_execution": (False,),
    "jax_no_tracing": (False,),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    **{
        f"jax_transfer_guard{way}": ("allow", None, "log", "log_explicit")
        for way in ("", "_host_to_device", "_device_to_host", "_device_to_device")
    },
}


def check_jax() -> None:
    """Raises ValueError where JAX is configured so that no run gets to its end."""
    for name, allowed in _NEEDED.items():
        value = getattr(jax.config, name, allowed[0])
        if value not in allowed:
            raise ValueError(
                f"JAX is configured with {name}={value}, under which nothing can be measured; "
                f"expected {allowed[0]}: unset {name.upper()}"
            )


def arithmetic() -> dict[str, str | bool]:
    """What JAX's configuration changes of the results: a run that goes on needs the same."""
    return {"precision": matmul_precision(), "x64": bool(jax.config.values["jax_enable_x64"])}


def matmul_precision() -> str:
    """JAX's default precision of products in force: one of `PRECISIONS`, or an algorithm's name."""
    precision = jax.config.values["jax_default_matmul_precision"]
    try:
        return jax.lax.Precision(precision).name.lower()
    except ValueError:
        return str(precision)


def rounding_step(dtype: str, platform: str, precision: str) -> float:
    """The distance from 1 to the next number, as coarsely as an encoder rounds on the way.

    A TPU multiplies float32 in bfloat16, and a GPU in tensorfloat32, where the precision lets them
    (see `jax.lax.Precision`). One that is none of `PRECISIONS` is taken for the default.
    """
    known = precision if precision in PRECISIONS else "default"
    return max(float(jnp.finfo(dtype).eps), _COARSE.get((platform, known), 0.0))
