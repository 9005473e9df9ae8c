"""One stage of a set of images in a file, read by rows."""

import itertools
import math
import threading
import weakref
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int


class StageFile:
    """One stage of n images, [n, h, w, c], in a part of a file. Rows are read when indexed."""

    def __init__(self, path: Path, stage: jax.ShapeDtypeStruct, offset: int):
        self.path, self.shape, self.dtype, self.offset = path, stage.shape, stage.dtype, offset
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (it stays open)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Int[np.ndarray, " m"]) -> np.ndarray:
        """The chosen images; read fastest where `index` ascends.

        Raises:
            IndexError: an index that is not in 0 … n − 1.
            ValueError: the file was cut while it was open; names it.
        """
        if index.size and not (index.min() >= 0 and index.max() < len(self)):
            raise IndexError(f"{self.path} has {len(self)} images, found {index} of them")
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = np.empty((len(index), size), np.uint8)
        starts = [*np.flatnonzero(np.diff(index, prepend=-2) != 1), len(index)]
        with self._lock:
            for start, stop in itertools.pairwise(starts):
                self._file.seek(self.offset + int(index[start]) * size)
                self._read_into(rows[start:stop].reshape(-1).data)
        return rows.view(self.dtype).reshape(len(index), *self.shape[1:])

    def _read_into(self, target: memoryview) -> None:
        while target:
            count = self._file.readinto(target)
            if not count:
                raise damaged(self.path, "it was cut while it was read")
            target = target[count:]


def damaged(path: Path, reason: object) -> ValueError:
    """What to raise where a file is not what was written."""
    return ValueError(
        f"the features in {path} are damaged ({reason}): delete that file to encode the images "
        "again"
    )
