"""Kept images: each is decoded or drawn at its first use, and never again."""

import math
import os
import shutil
import tempfile
import threading
import weakref
from errno import EINVAL, ENOSYS, EOPNOTSUPP
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from jaxtyping import UInt8

from posjax.images.loader import EightBit, Source, read_pixels

_LOCKS = 64
# Errors of file systems that cannot reserve room; a full disk shows on writing.
_CANNOT_RESERVE = (EOPNOTSUPP, EINVAL, ENOSYS)


class Kept(EightBit):
    """A source whose images are made once, however often they are read and by how many threads.

    Each is made at its first use, and kept with 8 bits a value. One that cannot be read is not
    kept: it is read again the next time, and raises again.
    """

    def __init__(self, source: Source, size: int, folder: Path | None = None):
        """Keeps images of `size` pixels a side in memory, or in a file in `folder`.

        The file has no name, and is gone when the process ends, however it ends.

        Raises:
            OSError: there is no room for all images in `folder`.
        """
        self.source = source
        self.shape = (size, size, 3)
        shape = (len(source), *self.shape)
        self._images = np.empty(shape, np.uint8) if folder is None else _File(folder, shape)
        self._made = np.zeros(len(source), bool)
        # One lock for each image would be too many. Images that share one are made in turn.
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

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
        """One image: RGB on 0 … 255, not to be written to.

        Raises:
            ValueError: it cannot be read, or has another size; names it.
        """
        number = range(len(self))[index]
        with self._locks[number % _LOCKS]:
            if not self._made[number]:
                self._images[number] = self._make(number)
                self._made[number] = True
        image = self._images[number]
        image.flags.writeable = False
        return image

    def _make(self, number: int) -> UInt8[np.ndarray, "size size 3"]:
        image = read_pixels(self.source, number)
        if image.shape != self.shape:
            raise ValueError(f"{self.keys[number]}: expected {self.shape}, not {image.shape}")
        return image

    def digest(self) -> str:
        """That of the source: the images are the same."""
        return self.source.digest()


class _File:
    """An array of images in a file, whose pages are no memory of the process."""

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]):
        self.shape, self.bytes = shape[1:], math.prod(shape[1:])
        folder.mkdir(parents=True, exist_ok=True)
        needed = shape[0] * self.bytes
        with tempfile.TemporaryFile(dir=folder) as file:
            self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)
        try:
            # A full disk shows now, not when half of the images are made.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.descriptor, 0, max(needed, 1))
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise OSError(
                    f"no room for images in {folder} ({error.strerror}): {needed:,} bytes needed, "
                    f"{shutil.disk_usage(folder).free:,} free"
                ) from error

    def __setitem__(self, index: int, image: UInt8[np.ndarray, "h w c"]) -> None:
        rest, offset = memoryview(image.tobytes()), index * self.bytes
        while rest:
            count = os.pwrite(self.descriptor, rest, offset)
            rest, offset = rest[count:], offset + count

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        data = os.pread(self.descriptor, self.bytes, index * self.bytes)
        return np.frombuffer(data, np.uint8).reshape(self.shape)
