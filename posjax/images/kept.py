"""Kept images: each is decoded or drawn at its first use, and never again."""

import math
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from jaxtyping import UInt8

from posjax.images.loader import Source, read_pixels
from posjax.images.views import View

_LOCKS = 64


class Kept(View):
    """A source whose images are made once, however often they are read and by how many threads.

    Each is kept with 8 bits a value. One that cannot be read raises again the next time.
    """

    def __init__(self, source: Source, size: int, folder: Path | None = None):
        """Keeps images of `size` pixels a side in memory, or in a file without name in `folder`.

        Raises:
            OSError: there is no room for all images in `folder`.
        """
        self.source = source
        shape = (len(source), size, size, 3)
        self._images = np.empty(shape, np.uint8) if folder is None else _in_file(folder, shape)
        self._made = np.zeros(len(source), bool)
        # One lock for each image would be too many. Images that share one are made in turn.
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        """One image: RGB on 0 … 255, not to be written to.

        Raises:
            ValueError: it cannot be read, or has another size; names it.
        """
        number = range(len(self))[index]
        image = self._images[number]
        with self._locks[number % _LOCKS]:
            if not self._made[number]:
                made = read_pixels(self.source, number)
                if made.shape != image.shape:
                    raise ValueError(
                        f"{self.keys[number]}: expected {image.shape}, not {made.shape}"
                    )
                image[:] = made
                self._made[number] = True
        image.flags.writeable = False
        return image


def _in_file(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An array of 8-bit values in a file that ends with it, or with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    needed = math.prod(shape)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            # A full disk shows now, not when half of the images are made.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
            return np.asarray(np.memmap(file, np.uint8, "w+", shape=shape))
        except OSError as error:
            raise OSError(
                f"no room for images in {folder} ({error.strerror}): {needed:,} bytes needed, "
                f"{shutil.disk_usage(folder).free:,} free"
            ) from error
