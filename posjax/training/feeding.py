"""Batches of labelled images in the order of training, from memory or from disk."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Num

from posjax.images import Labelled, batches, select

HELD_BYTES = 4_000_000_000
"""8-bit pixels of image sets that take no more stay in memory; others are read in every epoch."""

Batch = tuple[Num[np.ndarray, "n h w 3"], Int[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class Feed:
    """Labelled images, all of them in memory or none."""

    labelled: Labelled
    pixels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labelled.source)

    def batches(self, rows: Int[np.ndarray, " n"], batch_size: int) -> Iterator[Batch]:
        """The images and labels of `rows`, in that order; the last batch may be smaller.

        Raises:
            ValueError: an image cannot be read; names it.
        """
        parts = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        if self.pixels is not None:
            images = (self.pixels[part] for part in parts)
        else:
            images = batches(select(self.labelled.source, rows.tolist()), batch_size)
        for part, chosen in zip(parts, images, strict=True):
            yield chosen, self.labelled.labels[part]


def open_feed(labelled: Labelled, held_bytes: int = HELD_BYTES) -> Feed:
    """Reads the images into memory where they fit.

    Raises:
        ValueError: an image cannot be read; names it.
    """
    source = labelled.source
    shape = (len(source), *source[0].shape)
    if np.prod(shape, dtype=np.int64) > held_bytes:
        return Feed(labelled, None)
    pixels = np.empty(shape, np.uint8)
    row = 0
    for images in batches(source, 256):
        # Files hold 8 bits: nothing is lost.
        pixels[row : row + len(images)] = np.rint(images * 255)
        row += len(images)
    return Feed(labelled, pixels)


def order(count: int, batch_size: int, epoch: int, seed: int) -> Int[np.ndarray, " n"]:
    """The images of an epoch in whole batches; a rest of them, others in each, is left out."""
    shuffled = np.random.default_rng((seed, epoch)).permutation(count)
    return shuffled[: count - count % batch_size]
