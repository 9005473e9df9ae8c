"""Images with their targets, and the order in which a training sees them."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Num

from posjax.images import Source, batches, read_bytes, select

Batch = tuple[Num[np.ndarray, "n h w 3"], Num[np.ndarray, "n ..."]]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images, and the target of each: its class, or its mask.

    Images whose 8-bit pixels take at most `memory` bytes stay in memory; others are read in every
    epoch.
    """

    source: Source
    targets: Num[np.ndarray, "n ..."]
    memory: int = 4_000_000_000

    def __len__(self) -> int:
        return len(self.source)

    @functools.cached_property
    def pixels(self) -> Num[np.ndarray, "n h w 3"] | None:
        """All images, or None where they do not fit.

        Raises:
            ValueError: an image cannot be read; names it.
        """
        size = len(self) * np.prod(self.source[0].shape, dtype=np.int64)
        return None if size > self.memory else read_bytes(self.source)

    def batches(self, rows: Int[np.ndarray, " n"], batch_size: int) -> Iterator[Batch]:
        """The images and targets of `rows`, in that order; the last batch may be smaller.

        Raises:
            ValueError: an image cannot be read; names it.
        """
        parts = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        if self.pixels is not None:
            images = (self.pixels[part] for part in parts)
        else:
            images = batches(select(self.source, rows.tolist()), batch_size)
        for part, chosen in zip(parts, images, strict=True):
            yield chosen, self.targets[part]


def order(count: int, batch_size: int, epoch: int, seed: int) -> Int[np.ndarray, " n"]:
    """The images of an epoch in whole batches. Each epoch leaves out other ones of the rest."""
    shuffled = np.random.default_rng((seed, epoch)).permutation(count)
    return shuffled[: count - count % batch_size]
