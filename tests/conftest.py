"""Eight virtual CPU devices, and shapes checked at run time."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# From here on posjax is imported with its annotations checked.
install_import_hook("posjax", "beartype.beartype")
