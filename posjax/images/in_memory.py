"""Images at hand: arrays in place of a folder or dataset."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any, SupportsIndex

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from posjax.images.loader import RECIPE, EightBit, Source, to_bytes

Arrays = np.ndarray | jax.Array | Sequence[Any]
"""An array [n, h, w, 3], or any sequence of arrays [h, w, 3]."""


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Arrays [h, w, 3], uint8 or floats in [0, 1], each of any size. Results call them `name`."""

    arrays: Arrays
    name: str = "arrays"

    def __post_init__(self):
        """Raises ValueError for what is no image; names its number."""
        if not len(self.arrays):
            raise ValueError(f"{self.name}: there are no images")
        for number in range(len(self)):
            self.pixels(number)

    def __len__(self) -> int:
        return len(self.arrays)

    def __str__(self) -> str:
        return self.name

    def pixels(self, number: int) -> UInt8[np.ndarray, "h w 3"]:
        """One image: RGB on 0 … 255."""
        image, name = np.asarray(self.arrays[number]), f"{self.name}[{number}]"
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"{name}: expected an image [h, w, 3], found shape {image.shape}")
        if image.dtype == np.uint8:
            return image
        if not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"{name}: expected uint8 or floats in [0, 1], found {image.dtype}")
        return to_bytes(image.astype(np.float32), name)

    def source(self, chosen: Sequence[int], size: int) -> Source:
        """The chosen images at size × size pixels, resized as `load` resizes those of files."""
        return _Resized(self, tuple(chosen), size)


@dataclasses.dataclass(frozen=True)
class _Resized(EightBit):
    images: InMemory
    chosen: tuple[int, ...]
    size: int
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.images.name

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{self.name}[{number}]" for number in self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        image = Image.fromarray(self.images.pixels(self.chosen[index]))
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))

    def digest(self) -> str:
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(f"{RECIPE} {self.size}".encode())
        for number in self.chosen:
            image = self.images.pixels(number)
            total.update(f"{image.shape}".encode() + image.tobytes())
        return total.hexdigest()
