"""Views: sources that read their images from another source, some of them or all of them rolled."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from jaxtyping import UInt8

from posjax.images.loader import EightBit, Source, read_pixels

# Part of every digest: raise it when a change gives other pixels for the same seed.
RECIPE = "roll 1"


class View(EightBit):
    """The images of `source` under the same names."""

    source: Source

    @property
    def name(self) -> str:
        """The spec of the source."""
        return self.source.name

    @property
    def keys(self) -> tuple[str, ...]:
        """One name per image."""
        return self.source.keys

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """What the source left out."""
        return self.source.skipped

    def __len__(self) -> int:
        return len(self.source)

    def digest(self) -> str:
        """The digest of the source."""
        return self.source.digest()


@dataclass(frozen=True)
class Rolled(View):
    """A source whose images are rolled circularly, each by a random number of rows and columns.

    Every part of an image is then equally likely anywhere, whatever the photographer put on top.
    The two seams where opposite borders meet lie anywhere too. Seed and index determine the roll.
    """

    source: Source
    seed: int

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        """One rolled image: RGB on 0 … 255."""
        image = read_pixels(self.source, index)
        number = range(len(self))[index]
        shift = np.random.default_rng((self.seed, number)).integers(image.shape[:2])
        return np.roll(image, shift, axis=(0, 1))

    def digest(self) -> str:
        """SHA-256 in hexadecimal of the source's digest and of what determines the rolls."""
        return hashlib.sha256(f"{RECIPE} {self.source.digest()} {self.seed}".encode()).hexdigest()


def select(source: Source, indices: Sequence[int]) -> Source:
    """The images of `source` at `indices`, in that order; the source itself where it is all.

    Raises:
        IndexError: an index is out of range.
    """
    indices = tuple(map(int, indices))
    if indices == tuple(range(len(source))):
        return source
    if indices and not 0 <= min(indices) <= max(indices) < len(source):
        raise IndexError(
            f"{min(indices)} to {max(indices)} of the {len(source)} images of {source.name}"
        )
    return _Selection(source, indices)


@dataclass(frozen=True)
class _Selection(View):
    source: Source
    indices: tuple[int, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.source.keys[index] for index in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        return read_pixels(self.source, self.indices[index])

    def digest(self) -> str:
        return hashlib.sha256(f"{self.source.digest()} {self.indices}".encode()).hexdigest()
