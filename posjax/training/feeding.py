"""Batches of images and their targets, in the order of training."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Num

from posjax.images import Source, batches, read_bytes, select

HELD_BYTES = 4_000_000_000
"""Image sets whose 8-bit pixels take no more stay in memory; others are read in every epoch."""

Batch = tuple[Num[np.ndarray, "n h w 3"], Num[np.ndarray, "n ..."]]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images, and the target of each: its class, or its mask."""

    source: Source
    targets: Num[np.ndarray, "n ..."]


@dataclasses.dataclass(frozen=True)
class Feed:
    """Images of `shape`, all of them in memory or none, and the target of each."""

    source: Source
    targets: Num[np.ndarray, "n ..."]
    shape: tuple[int, int, int]
    pixels: Num[np.ndarray, "n h w 3"] | None

    def __len__(self) -> int:
        return len(self.source)

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


def open_feed(dataset: Dataset, held_bytes: int = HELD_BYTES) -> Feed:
    """Reads the images into memory where they fit.

    Raises:
        ValueError: an image cannot be read; names it.
    """
    source, shape = dataset.source, tuple(dataset.source[0].shape)
    size = len(source) * np.prod(shape, dtype=np.int64)
    pixels = None if size > held_bytes else read_bytes(source)
    return Feed(source, dataset.targets, shape, pixels)


def order(count: int, batch_size: int, epoch: int, seed: int) -> Int[np.ndarray, " n"]:
    """The images of an epoch in whole batches. Each epoch leaves out other ones of the rest."""
    shuffled = np.random.default_rng((seed, epoch)).permutation(count)
    return shuffled[: count - count % batch_size]
