"""PyTorch's checkpoints, of both formats: dicts of tensors by the path of their keys."""

import io
import zipfile

import numpy as np

from posjax.encoders.weights.torch_pickle import Tensor, unpickle

StateDict = dict[str, np.ndarray]
Nests = dict[str, StateDict]
"""Arrays by name, for each dict that holds some: by the path of its keys, joined by dots."""

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_BIG_ENDIAN = "written on a big-endian machine: load it and save it again on another"
_DEEPEST = 32  # dicts in dicts


def read_zip(content: bytes, archive: zipfile.ZipFile) -> tuple[Nests, dict[str, str]]:
    """PyTorch 1.6 and later: an archive of a pickle and of one entry for each storage."""
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
    nests = _nests(checkpoint)
    keys = {tensor.storage.key for state in nests.values() for tensor in state.values()}
    return _arrays(nests, {key: archive.read(f"{root}data/{key}") for key in keys}), {}


def read_stream(content: bytes) -> tuple[Nests, dict[str, str]]:
    """PyTorch 0.2 to 1.5: magic, version, system, checkpoint, keys; then the storages, in order."""
    stream = io.BytesIO(content)
    magic, version, system = (unpickle(stream)[0] for _ in range(3))
    if magic != _MAGIC or version != _PROTOCOL or not isinstance(system, dict):
        raise ValueError(f"a pickle, but not by torch.save: it begins with {type(magic).__name__}")
    if system.get("little_endian") is not True:
        raise ValueError(_BIG_ENDIAN)
    checkpoint, storages = unpickle(stream)
    nests = _nests(checkpoint)
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
    return _arrays(nests, data), {}


def _nests(checkpoint: object) -> dict[str, dict[str, Tensor]]:
    """The dicts of tensors in a checkpoint, and in the dicts in it, by the path of their keys."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"it holds a {type(checkpoint).__name__}, expected a dict of tensors")
    nests: dict[str, dict[str, Tensor]] = {}

    seen: set[int] = set()

    def visit(state: dict, path: tuple[str, ...]) -> None:
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        if tensors and all(isinstance(name, str) for name in tensors):
            nests[".".join(path)] = tensors
        # A dict may hold another many times, or itself.
        if id(state) in seen or len(path) == _DEEPEST:
            return
        seen.add(id(state))
        for name, value in state.items():
            if isinstance(name, str) and isinstance(value, dict):
                visit(value, (*path, name))

    visit(checkpoint, ())
    if not nests:
        raise ValueError(
            f"it holds no tensors under names, only {[str(name)[:40] for name in checkpoint][:8]}"
        )
    return nests


def _arrays(nests: dict[str, dict[str, Tensor]], data: dict[str, bytes]) -> Nests:
    return {
        nest: {name: tensor.array(data[tensor.storage.key]) for name, tensor in tensors.items()}
        for nest, tensors in nests.items()
    }
