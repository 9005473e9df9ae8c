"""Stages in files: the .npy format, read by rows into arrays of their own."""

import dataclasses
import io
import itertools
import math
import os
import weakref
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True, eq=False)
class StageFile:
    """One stage of n images, [n, h, w, c], in a file that stays open: deleting it harms nobody.

    Rows are read into arrays of their own, because the pages of a memory map would count as
    memory of the process.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    descriptor: int
    offset: int

    def __post_init__(self):
        weakref.finalize(self, os.close, self.descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Int[np.ndarray, " m"]) -> np.ndarray:
        """The chosen images; read fastest where `index` ascends.

        Raises:
            IndexError: an index that is not in 0 … n − 1.
            ValueError: the file was cut while it was open; names its folder.
        """
        if index.size and not (index.min() >= 0 and index.max() < len(self)):
            raise IndexError(f"{self.path} has {len(self)} images, found {index} of them")
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        room = _aligned_room(len(index) * size)
        target = memoryview(room)
        starts = np.flatnonzero(np.diff(index, prepend=-2) != 1)
        for start, stop in itertools.pairwise([*starts, len(index)]):
            self._read(target[start * size : stop * size], self.offset + int(index[start]) * size)
        return room.view(self.dtype).reshape(len(index), *self.shape[1:])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[np.arange(len(self))].astype(dtype or self.dtype, copy=False)

    def _read(self, target: memoryview, offset: int) -> None:
        while target:
            count = os.preadv(self.descriptor, [target], offset)
            if not count:
                raise damaged(self.path.parent, f"{self.path.name} was cut while it was read")
            target, offset = target[count:], offset + count


def header_of(stage: jax.ShapeDtypeStruct) -> bytes:
    """The first bytes of the file of a stage; its rows follow."""
    descr = np.lib.format.dtype_to_descr(_storable(stage.dtype))
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": tuple(stage.shape)}
    )
    return file.getvalue()


def open_stage(path: Path, stage: jax.ShapeDtypeStruct) -> StageFile:
    """Opens the file of a stage, [n, h, w, c].

    Raises:
        OSError, ValueError: it is not there, or no file of this shape and dtype.
    """
    header = header_of(stage)
    descriptor = os.open(path, os.O_RDONLY)
    opened = StageFile(path, tuple(stage.shape), stage.dtype, descriptor, len(header))
    size = len(header) + math.prod(stage.shape) * stage.dtype.itemsize
    if os.fstat(descriptor).st_size != size or os.pread(descriptor, len(header), 0) != header:
        raise ValueError(f"{path.name} is no file of {size} bytes for shape {list(stage.shape)}")
    return opened


def damaged(folder: Path, reason: object) -> ValueError:
    """What to raise where the files of a folder are not what was written."""
    return ValueError(
        f"the features in {folder} are damaged ({reason}): delete that folder to encode the images "
        "anew"
    )


def _aligned_room(size: int) -> np.ndarray:
    # JAX computes on memory that starts so where it is, and copies any other to the CPU's device.
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


def _storable(dtype: np.dtype) -> np.dtype:
    # numpy's file format does not know bfloat16.
    return np.dtype(np.uint16) if dtype.itemsize == 2 else dtype
