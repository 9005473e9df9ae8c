"""Files of weights as arrays by name: safetensors, NumPy archives and PyTorch's checkpoints."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from posjax.encoders.weights.torch_pickle import Tensor, unpickle

StateDict = dict[str, np.ndarray]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_BIG_ENDIAN = "written on a big-endian machine: load it and save it again on another"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file's arrays, its metadata (of safetensors) and its SHA-256 in hexadecimal."""

    arrays: StateDict
    metadata: dict[str, str]
    digest: str


def read_checkpoint(path: str | os.PathLike, digest: str | None = None) -> Checkpoint:
    """Reads a file of weights: `.safetensors`, `.npz`, or PyTorch's `.pth`, `.th` or `.pt`.

    Of a PyTorch checkpoint, the state dict is taken from "state_dict" or "model" where it is
    wrapped so. Code in a file is never run: pickles that ask for more than tensors are refused.
    `digest` is the SHA-256 that the file must have, if that is known.

    Returns:
        The arrays by their names in the file, less a `module.` in front of every one. They keep
        their types, except for bfloat16, which becomes float32, and may be read-only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a directory, of another kind, damaged, without arrays, or its digest is
            another one; the message names the file and the reason.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(_READERS)
        raise ValueError(f"{path}: weights of kind {path.suffix!r}, expected {kinds}")
    if path.is_dir():
        raise ValueError(f"{path} is a directory, expected a file of weights")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}, expected a file of weights")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if digest is not None and sha256 != digest:
        raise ValueError(f"{path} has the SHA-256 {sha256}, expected {digest}")
    try:
        arrays, metadata = _parse(content, reader)
    # Damage makes the parsers below raise almost anything. The caller gets one kind of error.
    except Exception as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(
            f"{path} cannot be read as a {path.suffix} file of weights: {kind}{error}"
        ) from error
    prefix = "module." if all(name.startswith("module.") for name in arrays) else ""
    arrays = {
        name.removeprefix(prefix): a.astype(np.float32) if a.dtype == jnp.bfloat16 else a
        for name, a in arrays.items()
    }
    return Checkpoint(arrays, metadata, sha256)


def _parse(content: bytes, reader: Callable) -> tuple[StateDict, dict[str, str]]:
    if not content:
        raise ValueError("the file is empty")
    if content[:200].lstrip().startswith(b"<"):
        raise ValueError(f"a web page was saved in its place: {content.lstrip()[:40]!r}")
    arrays, metadata = reader(content)
    if not arrays:
        raise ValueError("it holds no arrays")
    return arrays, metadata


def _read_safetensors(content: bytes) -> tuple[StateDict, dict[str, str]]:
    arrays = {}
    for name, tensor in safetensors.deserialize(content):
        if tensor["dtype"] not in _SAFETENSORS:
            raise ValueError(f"{name} is of type {tensor['dtype']}, expected {[*_SAFETENSORS]}")
        flat = np.frombuffer(tensor["data"], _SAFETENSORS[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"])
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return arrays, header.get("__metadata__", {})


_SAFETENSORS = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8},
    "BOOL": np.bool_,
}


def _read_npz(content: bytes) -> tuple[StateDict, dict[str, str]]:
    if not content.startswith(b"PK"):
        raise ValueError(f"not a zip archive: it begins with {content[:8]!r}")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError(f"{name} is not an array of numbers")
    return arrays, {}


def _read_torch(content: bytes) -> tuple[StateDict, dict[str, str]]:
    if content[257:262] == b"ustar":
        raise ValueError(
            "a tar archive, as PyTorch before 0.2 wrote them: load it there and save it again"
        )
    return (_read_torch_zip if content.startswith(b"PK") else _read_torch_stream)(content), {}


def _read_torch_zip(content: bytes) -> StateDict:
    """PyTorch 1.6 and later: an archive of a pickle and of one entry for each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        # PyTorch never compresses; entries that inflate or overlap could fill the memory.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("a compressed zip archive, which PyTorch does not write")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("the entries of the archive are larger than the file")
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"a zip archive without one data.pkl, but with {names[:5]}")
        root = roots[0]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError(_BIG_ENDIAN)
        checkpoint, _ = unpickle(io.BytesIO(archive.read(f"{root}data.pkl")))
        tensors = _state_dict(checkpoint)
        keys = {tensor.storage.key for tensor in tensors.values()}
        data = {key: archive.read(f"{root}data/{key}") for key in keys}
    return {name: t.array(data[t.storage.key]) for name, t in tensors.items()}


def _read_torch_stream(content: bytes) -> StateDict:
    """PyTorch 0.2 to 1.5: magic, version, system, checkpoint, keys; then the storages, in order."""
    stream = io.BytesIO(content)
    magic, version, system = (unpickle(stream)[0] for _ in range(3))
    if magic != _MAGIC or version != _PROTOCOL or not isinstance(system, dict):
        raise ValueError(f"a pickle, but not by torch.save: it begins with {type(magic).__name__}")
    if system.get("little_endian") is not True:
        raise ValueError(_BIG_ENDIAN)
    checkpoint, storages = unpickle(stream)
    tensors = _state_dict(checkpoint)
    keys, data = unpickle(stream)[0], {}
    if not isinstance(keys, list):
        raise ValueError(f"its storages are named by a {type(keys).__name__}, expected a list")
    for key in keys:
        size = int.from_bytes(stream.read(8), "little")
        if size != storages[key].size:
            raise ValueError(f"storage {key!r} has {size} values, expected {storages[key].size}")
        length = size * storages[key].dtype.itemsize
        data[key] = stream.read(length)
        if len(data[key]) != length:
            raise ValueError(f"it ends in storage {key!r}: {len(data[key])} bytes of {length}")
    return {name: t.array(data[t.storage.key]) for name, t in tensors.items()}


def _state_dict(checkpoint: object) -> dict[str, Tensor]:
    if not isinstance(checkpoint, dict):
        raise ValueError(f"it holds a {type(checkpoint).__name__}, expected a dict of tensors")
    wrapped = (checkpoint.get(key) for key in ("state_dict", "model"))
    state = next((value for value in wrapped if isinstance(value, dict)), checkpoint)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"it holds no tensors, only {[str(name)[:40] for name in state][:8]}")
    if not all(isinstance(name, str) for name in tensors):
        raise ValueError("its tensors are not keyed by names")
    return tensors


_READERS = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    **dict.fromkeys((".pth", ".th", ".pt"), _read_torch),
}
