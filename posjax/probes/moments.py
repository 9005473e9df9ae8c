"""Sums over images of the products of readout columns: all that ridge needs to know of them.

See the head of `posjax.probes.ridge` for the formulas.
"""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from posjax.layers import Arrays
from posjax.probes.readout import Readout, Stages

BLOCKS = 8  # of columns: the 7/16 of the Gram matrix below their diagonal are not computed


class Sums(NamedTuple):
    """Sums over images: the Gram matrix, a block for each range of columns, and the rows."""

    gram: tuple[Float[Arrays, "_ _"], ...]
    total: Float[Arrays, "p d"]


class Compensated(NamedTuple):
    """Float32 sums, and what was lost in rounding them: together as good as float64."""

    value: Sums
    lost: Sums


class Moments(NamedTuple):
    """Σ ZᵀZ and Σ Z over `count` images, in float64."""

    count: int
    gram: Float[np.ndarray, "d d"]
    total: Float[np.ndarray, "p d"]


def no_sums(readout: Readout, shift: Float[Arrays, " c"]) -> Compensated:
    """The sums over no images of stages with as many channels as `shift` has."""
    columns = readout.kernel_size**2 * len(shift)
    rows = [len(r) for _, r in readout.upsampling_factors()]
    gram = tuple(jnp.zeros((b - a, columns - a), jnp.float32) for a, b in _blocks(columns))
    sums = Sums(gram, jnp.zeros((rows[0] * rows[1], columns), jnp.float32))
    return Compensated(sums, jax.tree.map(jnp.zeros_like, sums))


def add_images(
    readout: Readout,
    sums: Compensated,
    stages: Stages,
    shift: Float[Array, " c"],
    mask: Float[Array, " n"],
) -> Compensated:
    """The sums with those of n more images, of which only those with mask 1 count.

    `shift` is subtracted from the features, so that means far from 0 cost no digits of float32; the
    bias makes up for it. Images are added one by one, so that the sums do not depend on the batch
    or the device of an image.
    """
    product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)

    def add(sums: Compensated, image: tuple[Array, Array]) -> tuple[Compensated, None]:
        z = image[1] * _whitened(readout, image[0], shift)
        more = Sums(tuple(product(z[:, a:b].T, z[:, a:]) for a, b in _blocks(z.shape[1])), z)
        value = jax.tree.map(jnp.add, sums.value, more)
        lost = jax.tree.map(_add_lost, sums.lost, sums.value, more, value)
        return Compensated(value, lost), None

    return lax.scan(add, sums, (readout.concatenated(stages), mask))[0]


def moments(sums: Compensated, count: int) -> Moments:
    """The moments of `count` images, from their sums.

    Raises:
        FloatingPointError: a sum is not finite: the features are too large for float32.
    """
    blocks, total = jax.tree.map(lambda a, b: np.float64(a) + np.float64(b), *sums)
    columns = total.shape[1]
    gram = np.empty((columns, columns))
    for (a, b), block in zip(_blocks(columns), blocks, strict=True):
        gram[a:b, a:] = block
        gram[b:, a:b] = block[:, b - a :].T
    # No entry of a Gram matrix is larger than the largest of its diagonal.
    if not (np.isfinite(np.diagonal(gram)).all() and np.isfinite(total).all()):
        raise FloatingPointError(
            f"the Gram matrix of {columns} columns is not finite: features beyond 1e18 are too "
            "large to be squared in float32"
        )
    return Moments(count, gram, total)


def _whitened(
    readout: Readout, image: Float[Array, "h w c"], shift: Float[Array, " c"]
) -> Float[Array, "p d"]:
    edge, (height, width) = readout.padding, readout.response_size
    # After the padding, so that every column is shifted as a whole.
    shifted = jnp.pad(image, ((edge, edge), (edge, edge), (0, 0))) - shift
    taps = np.ndindex(readout.kernel_size, readout.kernel_size)
    columns = jnp.concatenate([shifted[i : i + height, j : j + width] for i, j in taps], axis=-1)
    rows, across = (jnp.asarray(r, image.dtype) for _, r in readout.upsampling_factors())
    product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    return product("ah,hwd,bw->abd", rows, columns, across).reshape(-1, columns.shape[-1])


def _add_lost(lost: Array, before: Array, more: Array, after: Array) -> Array:
    # Knuth's two-sum: exact, whichever of the two is larger.
    part = after - before
    return lost + ((before - (after - part)) + (more - part))


def _blocks(columns: int) -> list[tuple[int, int]]:
    bounds = np.linspace(0, columns, min(BLOCKS, columns) + 1).astype(int).tolist()
    return list(itertools.pairwise(bounds))
