"""The pickles in PyTorch checkpoints, run by a machine that knows tensors and plain containers.

A name in a pickle is looked up in a short table and never imported, so no code in a file can run.
"""

import dataclasses
import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from posjax.encoders.weights.torch_tensors import Storage, Tensor


def unpickle(stream: io.BytesIO) -> tuple[object, dict[str, Storage]]:
    """Runs the next pickle of a stream, up to and including its last byte.

    Returns:
        The pickle's value, in which tensors are `Tensor`, and the storages it names by their keys.

    Raises:
        ValueError: the pickle asks for anything but tensors and plain containers. A damaged pickle
            may raise other errors as well.
    """
    machine = _Machine(stream)
    return machine.load(), machine.storages


def _tensor(
    storage: Storage, offset: int, shape: Sequence, strides: Sequence, *others: Any
) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"a tensor of {type(storage).__name__}, numbers {str(numbers)[:80]}")
    # Behind `requires_grad` and `backward_hooks`. A conjugate bit changes nothing, because complex
    # numbers are no weights.
    flags = others[2] if len(others) > 2 else None
    negative = isinstance(flags, dict) and flags.get("neg") is True
    return Tensor(storage, offset, tuple(shape), tuple(strides), negative)


def _tensor_of_new_type(*arguments: Any) -> Tensor:
    *plain, dtype = arguments[:7]
    return dataclasses.replace(_tensor(*plain), unread=str(dtype))


def _dict(pairs: Iterable | dict = ()) -> dict:
    pairs = pairs.items() if isinstance(pairs, dict) else pairs
    return _add({}, [item for key, value in pairs for item in (key, value)])


def _add(mapping: dict, items: list) -> dict:
    for key, value in zip(items[::2], items[1::2], strict=True):
        mapping[_hashable(key)] = value
    return mapping


def _hashable(key: Any) -> Any:
    # A tuple nested deeply enough overflows the interpreter's stack as soon as it is hashed.
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, str | int | float | None) for part in parts):
        raise ValueError(f"a dict or set with a {type(key).__name__} of other objects as its key")
    return key


def _set(values: Iterable = ()) -> set:
    return {_hashable(value) for value in values}


def _text(*parts: Any) -> str:
    return ":".join(map(str, parts))


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes that are encoded as {str(encoding)[:20]!r}")
    return text.encode("latin1")


def _refused(what: str) -> Callable:
    def refuse(*_: Any) -> None:
        raise ValueError(f"it holds a {what} tensor: save a dense tensor of plain numbers")

    return refuse


# What PyTorch's own safe loader reads, too.
_GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "collections.defaultdict": lambda *_: {},
    "torch.Size": tuple,
    "torch.device": _text,
    "_codecs.encode": _encoded,
    **{f"{module}.set": _set for module in ("builtins", "__builtin__")},
    **{f"{module}.dict": _dict for module in ("builtins", "__builtin__")},
    **{f"{module}.list": list for module in ("builtins", "__builtin__")},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_new_type,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._utils._rebuild_sparse_tensor": _refused("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _refused("sparse"),
    "torch._utils._rebuild_qtensor": _refused("quantised"),
    "torch._utils._rebuild_meta_tensor_no_storage": _refused("meta"),
    **{
        f"torch.{name}": name
        for name in (
            *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
            *("uint8", "int8", "int16", "int32", "int64", "per_tensor_affine", "strided"),
            *("uint16", "uint32", "uint64", "complex32", "float8_e4m3fn", "float8_e4m3fnuz"),
            *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"),
        )
    },
    "torch.serialization._get_layout": _text,
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
    "torch.ComplexFloatStorage": np.dtype(np.complex64),
    "torch.ComplexDoubleStorage": np.dtype(np.complex128),
    "torch.storage.UntypedStorage": np.dtype(np.uint8),
    # Their tensors are refused.
    **{f"torch.Q{kind}Storage": np.dtype(np.uint8) for kind in ("UInt8", "Int8", "Int32")},
}
# The operations that build numbers, text, containers and the globals above: no others run.
_ALLOWED = """
    STOP PROTO FRAME MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_SET EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT
    GLOBAL STACK_GLOBAL REDUCE BINPERSID
"""
_CODES = [getattr(pickle, name)[0] for name in _ALLOWED.split()]


def _refuse(machine: Any) -> None:
    raise ValueError("its pickle has an operation that no array needs")


def _set_item(machine: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _add(machine.stack[-1], [key, value])


def _set_items(machine: Any) -> None:
    items = machine.pop_mark()
    _add(machine.stack[-1], items)


def _add_items(machine: Any) -> None:
    items = machine.pop_mark()
    machine.stack[-1].update(_set(items))


def _make_dict(machine: Any) -> None:
    items = machine.pop_mark()
    machine.append(_add({}, items))


def _skip_attributes(machine: Any) -> None:
    # Those of a dict, such as a state dict's `_metadata`.
    machine.stack.pop()


class _Machine(pickle._Unpickler):
    """Python's own machine for pickles, with a short list of operations and a table of names.

    `pickle.Unpickler`, which is written in C, would reserve gigabytes where a few bytes say so.
    """

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream, encoding="latin-1")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in _GLOBALS:
            raise ValueError(
                f"its pickle asks for {full}, which no array needs; nothing was run. "
                "Whole models and other objects are refused: save model.state_dict()"
            )
        return _GLOBALS[full]

    def persistent_load(self, pid: Any) -> Storage:
        tag, dtype, key, _, size, *view = pid
        _, start, view_size = view[0] if view and view[0] else (None, 0, size)
        numbers = (size, start, view_size)
        named = tag == "storage" and isinstance(dtype, np.dtype) and isinstance(key, str)
        if not named or not all(type(n) is int for n in numbers):
            raise ValueError(f"a storage of {tag!r}, key {key!r}, numbers {numbers}")
        if min(numbers) < 0 or start + view_size > size:
            raise ValueError(f"a view of a storage: {view_size} values from {start} on, of {size}")
        self.storages[key] = Storage(key, dtype, size, start, view_size)
        return self.storages[key]

    dispatch: ClassVar[dict] = {
        **dict.fromkeys(range(256), _refuse),
        **{code: pickle._Unpickler.dispatch[code] for code in _CODES},
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _make_dict,
        pickle.ADDITEMS[0]: _add_items,
        pickle.BUILD[0]: _skip_attributes,
    }
