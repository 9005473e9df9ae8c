"""Selections: a source of some of the images of another source."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from jaxtyping import UInt8

from posjax.images.loader import EightBit, Source, read_pixels


def select(source: Source, indices: Sequence[int]) -> Source:
    """The images of `source` at `indices`, in that order; the source itself where it is all.

    Raises:
        IndexError: an index is out of range.
    """
    indices = tuple(map(int, indices))
    return source if indices == tuple(range(len(source))) else _Selection(source, indices)


@dataclass(frozen=True)
class _Selection(EightBit):
    source: Source
    indices: tuple[int, ...]

    def __post_init__(self):
        if self.indices and not 0 <= min(self.indices) <= max(self.indices) < len(self.source):
            raise IndexError(
                f"{min(self.indices)} to {max(self.indices)} of the {len(self.source)} images of "
                f"{self.source.name}"
            )

    @property
    def name(self) -> str:
        """The spec of the whole source."""
        return self.source.name

    @property
    def keys(self) -> tuple[str, ...]:
        """One name per chosen image."""
        return tuple(self.source.keys[index] for index in self.indices)

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """What the whole source left out."""
        return self.source.skipped

    def __len__(self) -> int:
        return len(self.indices)

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        """One chosen image: RGB on 0 … 255."""
        return read_pixels(self.source, self.indices[index])

    def digest(self) -> str:
        """SHA-256 in hexadecimal of the source's digest and of which images are chosen."""
        return hashlib.sha256(f"{self.source.digest()} {self.indices}".encode()).hexdigest()
