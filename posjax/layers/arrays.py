"""The type of arrays that public functions take: JAX's or NumPy's."""

import jax
import numpy as np

Arrays = jax.Array | np.ndarray
