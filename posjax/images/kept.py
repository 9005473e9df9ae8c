"""Kept images: each is decoded or drawn at its first use, and never again."""

import math
import os
import shutil
import tempfile
import threading
import weakref
from errno import EINVAL, EOPNOTSUPP
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
        self._images = np.empty(shape, np.uint8) if folder is None else _InFile(folder, shape)
        self._made = np.zeros(len(source), bool)
        # One lock for each image would be too many. Images that share one are made in turn.
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        """One image: RGB on 0 … 255, not to be written to.

        Raises:
            ValueError: it cannot be read, or has another size; names it.
        """
        number = range(len(self))[index]
        with self._locks[number % _LOCKS]:
            if not self._made[number]:
                made, shape = read_pixels(self.source, number), self._images.shape[1:]
                if made.shape != shape:
                    raise ValueError(f"{self.keys[number]}: expected {shape}, not {made.shape}")
                self._images[number] = made
                self._made[number] = True
        image = self._images[number]
        image.flags.writeable = False
        return image


class _InFile:
    """An array of images in a file that ends with it, or with the process.

    It is read and written plainly: not every file system can map a file, or set room aside.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]):
        folder.mkdir(parents=True, exist_ok=True)
        self.shape, self._folder, self._size = shape, folder, math.prod(shape[1:])
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it stays open)
        weakref.finalize(self, self._file.close)
        self._writes = threading.Lock()
        # A full disk shows now, not when half of the images are made.
        needed = math.prod(shape)
        if needed > shutil.disk_usage(folder).free:
            raise self._no_room(needed)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._file.fileno(), 0, needed)
            except OSError as error:
                if error.errno not in (EINVAL, EOPNOTSUPP):
                    raise self._no_room(needed) from error

    def __getitem__(self, number: int) -> UInt8[np.ndarray, "size size 3"]:
        content = os.pread(self._file.fileno(), self._size, number * self._size)
        return np.frombuffer(content, np.uint8).reshape(self.shape[1:])

    def __setitem__(self, number: int, image: UInt8[np.ndarray, "size size 3"]) -> None:
        try:
            with self._writes:
                self._file.seek(number * self._size)
                self._file.write(np.ascontiguousarray(image).data)
                self._file.flush()
        except OSError as error:
            raise self._no_room(self._size) from error

    def _no_room(self, needed: int) -> OSError:
        return OSError(
            f"no room for images in {self._folder}: {needed:,} bytes needed, "
            f"{shutil.disk_usage(self._folder).free:,} free"
        )
