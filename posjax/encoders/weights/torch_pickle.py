"""The pickles in PyTorch checkpoints, run by a machine that knows tensors and plain containers.

A name in a pickle is looked up in a short table and never imported, so no code in a file can run.
"""

import dataclasses
import io
import math
import pickletools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

import numpy as np


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where a file keeps `size` values; a tensor sees `view_size` of them, from `view_start`."""

    key: str
    dtype: np.dtype
    is_bfloat16: bool
    size: int
    view_start: int
    view_size: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor as its pickle describes it; the values lie elsewhere in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, data: bytes, order: str) -> np.ndarray:
        """The tensor's values out of its storage's bytes, in the given byte order.

        Returns:
            An array that may be a read-only view of `data`; bfloat16 becomes float32.

        Raises:
            ValueError: the tensor reaches outside of its storage, or the storage is of another
                length than the pickle says.
        """
        storage, dtype = self.storage, self.storage.dtype
        if len(data) != storage.size * dtype.itemsize:
            raise ValueError(
                f"storage {storage.key!r} has {len(data)} bytes, expected {storage.size} "
                f"values of {dtype.itemsize} bytes"
            )
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((length - 1) * stride for length, stride in steps)
        count = math.prod(self.shape)
        # More values than the storage has: an expanded tensor, whose copies could fill the memory.
        if count > storage.view_size or (count and last >= storage.view_size):
            raise ValueError(
                f"a tensor of shape {self.shape}, strides {self.strides}, offset {self.offset} "
                f"does not fit into the {storage.view_size} values of storage {storage.key!r}"
            )
        if not count:
            return np.empty(self.shape, dtype)
        array = np.ndarray(
            self.shape,
            # numpy refuses any other word
            dtype.newbyteorder(cast(Literal["little", "big"], order)),
            buffer=data,
            offset=(storage.view_start + self.offset) * dtype.itemsize,
            strides=[stride * dtype.itemsize for stride in self.strides],
        )
        return widened(array) if storage.is_bfloat16 else array.astype(dtype, copy=False)


def widened(bfloat16: np.ndarray) -> np.ndarray:
    """Bfloat16 values, given as uint16 bit patterns, as float32."""
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)


def unpickle(stream: io.BytesIO) -> tuple[object, dict[str, Storage]]:
    """Runs the next pickle of a stream, up to and including its last byte.

    The machine of `pickle` is not used, not even restricted: it imports, it calls `__setstate__`,
    and a few bytes make it reserve gigabytes. The opcodes are described in `pickletools`.

    Returns:
        The pickle's value, in which tensors are `Tensor`, and the storages it names by their keys.

    Raises:
        ValueError: the pickle asks for anything but tensors and plain containers. A damaged pickle
            may raise other errors as well.
    """
    storages: dict[str, Storage] = {}
    stack: list = []
    marks: list[int] = []
    memo: dict[object, object] = {}

    def since(start: int) -> list:
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "STOP":
                return stack.pop(), storages
            case "PROTO" | "FRAME":
                pass
            case literal if literal in _LITERALS:
                stack.append(argument)
            case constant if constant in _CONSTANTS:
                stack.append(_CONSTANTS[constant])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                marks.append(len(stack))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(since(-int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(since(marks.pop())))
            case "LIST":
                stack.append(since(marks.pop()))
            case "DICT":
                stack.append(_add({}, since(marks.pop())))
            case "APPEND":
                stack[-2].extend(since(-1))
            case "APPENDS":
                values = since(marks.pop())
                stack[-1].extend(values)
            case "SETITEM":
                _add(stack[-3], since(-2))
            case "SETITEMS":
                items = since(marks.pop())
                _add(stack[-1], items)
            case "GLOBAL":
                stack.append(_Global(str(argument).replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(_Global(".".join(since(-2))))
            case "REDUCE":
                function, arguments = since(-2)
                stack.append(_BUILDERS[function.name](*arguments))
            case "BUILD":
                # The attributes of a dict, such as a state dict's `_metadata`, are of no use here.
                stack.pop()
            case "BINPERSID":
                storage = _storage(*stack.pop())
                storages[storage.key] = storage
                stack.append(storage)
            case refused:
                raise ValueError(f"its pickle uses {refused}, which no array needs")
    raise ValueError("its pickle has no end")


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for."""

    name: str

    def __post_init__(self):
        if self.name not in _BUILDERS and self.name not in _STORAGES:
            raise ValueError(
                f"its pickle asks for {self.name}, which no array needs; nothing was run. "
                "Whole models and other objects are refused: save model.state_dict()"
            )


def _storage(tag: str, kind: _Global, key: str, location: str, size: int, view=None) -> Storage:
    _, start, view_size = (None, 0, size) if view is None else view
    numbers = (size, start, view_size)
    if tag != "storage" or not isinstance(key, str) or not all(type(n) is int for n in numbers):
        raise ValueError(f"a storage of {tag!r}, key {key!r}, numbers {numbers}")
    if min(numbers) < 0 or start + view_size > size:
        raise ValueError(f"a view of a storage: {view_size} values from {start} on, of {size}")
    dtype = np.dtype(_STORAGES[kind.name])
    return Storage(key, dtype, kind.name == "torch.BFloat16Storage", size, start, view_size)


def _tensor(storage: Storage, offset: int, shape: Sequence, strides: Sequence, *_) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"a tensor of {type(storage).__name__}, numbers {str(numbers)[:80]}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Tensor, *_) -> Tensor:
    return tensor


def _dict(pairs: Iterable = ()) -> dict:
    return _add({}, [item for key, value in pairs for item in (key, value)])


def _add(mapping: dict, items: list) -> dict:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # A tuple nested deeply enough overflows the interpreter's stack as soon as it is hashed.
        if not isinstance(key, str | int | float | None):
            raise ValueError(f"a dict keyed by a {type(key).__name__}")
        mapping[key] = value
    return mapping


_BUILDERS: dict[str, Callable] = {
    "collections.OrderedDict": _dict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
_STORAGES = {
    "torch.FloatStorage": np.float32,
    "torch.DoubleStorage": np.float64,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": np.uint16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
