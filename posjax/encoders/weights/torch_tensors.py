"""Tensors as a PyTorch checkpoint describes them: views on storages that lie elsewhere in it."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

MOST_EXPANDED = 2**24
"""Values that a tensor may have at most where it has more than its storage (`Tensor.expand`)."""


def unread(kind: str, shape: Sequence[int]) -> np.ndarray:
    """Stands for an array of a type that is not read: no numbers, `kind` as the name of a field."""
    return np.broadcast_to(np.zeros((), [(kind, "V1")]), shape)


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where a file keeps `size` values; a tensor sees `view_size` of them, from `view_start`."""

    key: str
    dtype: np.dtype
    size: int
    view_start: int
    view_size: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor as its pickle describes it; the values lie elsewhere in the file.

    `negative`: the values are those of the storage with the other sign. `unread` names a type that
    is not read.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    negative: bool = False
    unread: str = ""

    def array(self, data: bytes) -> np.ndarray:
        """The tensor's values out of its storage's bytes, which may be a view of these.

        Raises:
            ValueError: the tensor reaches outside of its storage, or the storage is of another
                length than the pickle says.
        """
        storage, width = self.storage, self.storage.dtype.itemsize
        if len(data) != storage.size * width:
            raise ValueError(
                f"storage {storage.key!r} has {len(data)} bytes, expected {storage.size} "
                f"values of {width} bytes"
            )
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((length - 1) * stride for length, stride in steps)
        count = math.prod(self.shape)
        if not count:
            return np.empty(self.shape, storage.dtype)
        # An expanded tensor has more values than its storage, and copies of it could fill the
        # memory. NumPy's own check of what lies outside can overflow.
        if count > max(storage.view_size, MOST_EXPANDED) or last >= storage.view_size:
            raise ValueError(
                f"a tensor of shape {self.shape}, strides {self.strides}, offset {self.offset} "
                f"does not fit into the {storage.view_size} values of storage {storage.key!r}"
            )
        if self.unread:
            return unread(self.unread, self.shape)
        offset = (storage.view_start + self.offset) * width
        strides = [stride * width for stride in self.strides]
        array = np.ndarray(self.shape, storage.dtype, data, offset, strides)
        return np.negative(array) if self.negative else array
