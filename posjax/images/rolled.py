"""Rolled images: their content carries no position."""

import hashlib
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from jaxtyping import UInt8

from posjax.images.loader import EightBit, Source, read_pixels

# Part of every digest: raise it when a change gives other pixels for the same seed.
RECIPE = "roll 1"


@dataclass(frozen=True)
class Rolled(EightBit):
    """A source whose images are rolled circularly, each by a random number of rows and columns.

    Every part of an image is then equally likely anywhere, whatever the photographer put on top.
    The two seams where opposite borders meet lie anywhere too. Seed and index determine the roll.
    """

    source: Source
    seed: int

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

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        """One rolled image: RGB on 0 … 255."""
        image = read_pixels(self.source, index)
        number = range(len(self))[index]
        shift = np.random.default_rng((self.seed, number)).integers(image.shape[:2])
        return np.roll(image, shift, axis=(0, 1))

    def digest(self) -> str:
        """SHA-256 in hexadecimal of the source's digest and of what determines the rolls."""
        return hashlib.sha256(f"{RECIPE} {self.source.digest()} {self.seed}".encode()).hexdigest()
