"""Files of weights as arrays by name: safetensors, NumPy archives and PyTorch's checkpoints."""

import dataclasses
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from posjax.encoders.weights.torch_files import Nests, StateDict, read_stream, read_zip
from posjax.encoders.weights.torch_tensors import unread


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file's arrays, its metadata (of safetensors) and its SHA-256 in hexadecimal.

    `nests` are all dicts of arrays in the file by the path of their keys, joined by dots; "" is the
    outermost. `arrays` are those that `nest` names; `chosen` tells whether the path named it.
    """

    arrays: StateDict
    metadata: dict[str, str]
    digest: str
    nests: Nests = dataclasses.field(default_factory=dict)
    nest: str = ""
    chosen: bool = False


def read_checkpoint(path: str | os.PathLike, digest: str | None = None) -> Checkpoint:
    """Reads a file of weights: safetensors, NumPy's `.npz`, or a checkpoint of PyTorch.

    The kind is known by the content, whatever the ending. Of a PyTorch checkpoint with several
    dicts of tensors one is taken: that which `FILE#NEST` names, such as `FILE#model_ema`, or its
    part with a prefix, such as `FILE#state_dict.encoder_q`; or else
    "state_dict", "model_state_dict", "model" and so on, see `NESTS`, or the largest. Code in a file
    is never run: pickles that ask for more than tensors and plain containers are refused.
    `digest` is the SHA-256 that the file must have, if that is known.

    Returns:
        The arrays by their names in the file, less any `module.` and `_orig_mod.` in front of all
        of them. They keep their types, except for bfloat16, which becomes float32, and may be
        read-only. Those of a type that is not read, such as float8, are `unread`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a directory, of another kind, damaged, without arrays or the nest, or its
            digest is another one; the message names the file and the reason.
    """
    path, nest = _split(Path(path))
    if path.is_dir():
        raise ValueError(f"{path} is a directory, expected a file of weights")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}, expected a file of weights")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if digest is not None and sha256 != digest:
        raise ValueError(f"{path} has the SHA-256 {sha256}, expected {digest}")
    try:
        nests, metadata = _reader(content)(content)
        if not any(nests.values()):
            raise ValueError("it holds no arrays")
    # Damage makes the parsers below raise almost anything. The caller gets one kind of error.
    except Exception as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{path} cannot be read as a file of weights: {kind}{error}") from error
    nests = {key: _plain(arrays) for key, arrays in nests.items() if arrays}
    if nest is not None and nest not in nests:
        if not (part := _under(nest, nests)):
            raise ValueError(f"{path} has no {nest!r}; its dicts of arrays are {_listed(nests)}")
        nests[nest] = part
    taken = _preferred(nests) if nest is None else nest
    return Checkpoint(nests[taken], metadata, sha256, nests, taken, nest is not None)


NESTS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "params", "module"),
    *("backbone", "encoder"),
)
"""The keys under which a checkpoint's weights are looked for, the likeliest first."""


def _split(path: Path) -> tuple[Path, str | None]:
    """A path and the nest behind its last `#`, where no file of that whole name exists."""
    name, sign, nest = path.name.rpartition("#")
    return (path, None) if path.exists() or not sign else (path.with_name(name), nest)


def _under(name: str, nests: Nests) -> StateDict:
    """The arrays whose names begin with `name` and a dot, those of their dicts in front of them."""
    whole = {
        f"{nest}.{key}".lstrip("."): array
        for nest, arrays in nests.items()
        for key, array in arrays.items()
    }
    start = f"{name}."
    return {key.removeprefix(start): a for key, a in whole.items() if key.startswith(start)}


def _preferred(nests: Nests) -> str:
    for nest in NESTS:
        if nest in nests:
            return nest
    return max(nests, key=lambda nest: len(nests[nest]))


def _listed(nests: Nests) -> str:
    return ", ".join(nest or "the file itself" for nest in list(nests)[:10])


def _plain(arrays: StateDict) -> StateDict:
    """Arrays in float32 for bfloat16, without what wrappers put in front of all names."""
    # Averaged models count their updates there.
    names = [name for name in arrays if name != "n_averaged"]
    wrappers = {name[: len(name) - len(_WRAPPERS.sub("", name))] for name in names}
    if len(wrappers) == 1 and (prefix := wrappers.pop()):
        arrays = {name.removeprefix(prefix): arrays[name] for name in names}
    return {n: a.astype(np.float32) if a.dtype == jnp.bfloat16 else a for n, a in arrays.items()}


_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)*")


def _reader(content: bytes) -> Callable[[bytes], tuple[Nests, dict[str, str]]]:
    """The reader of a file's kind, by its content; raises ValueError where there is none."""
    start = content[:200].lstrip()
    if not content:
        raise ValueError("the file is empty")
    # The length of its header may begin like another kind of file.
    if content[4:9] == b"\0\0\0\0{":
        return _read_safetensors
    for sign, what in _OTHERS.items():
        if start.startswith(sign):
            raise ValueError(what)
    if content[257:262] == b"ustar":
        raise ValueError(
            "a tar archive, as PyTorch before 0.2 wrote them: load it there and save it again"
        )
    if content.startswith(b"PK"):
        return _read_zip
    if content[8:9] == b"{":
        return _read_safetensors
    if content.startswith(b"{"):
        raise ValueError(
            "JSON text. An index of weights in shards is no file of weights: load all shards and "
            "save them as one file"
        )
    # How pickles begin: of protocol 2 and later, and of the older ones.
    if content[:1] in b"\x80(]}cIL":
        return read_stream
    raise ValueError(f"it begins with {content[:12]!r}, expected {_KINDS}")


_KINDS = "safetensors, a NumPy archive (.npz) or a PyTorch checkpoint"
_OTHERS = {
    b"<": "a web page was saved in its place",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: fetch it by git lfs pull",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"\x89HDF": "an HDF5 file, such as Keras writes: load it with Keras and save the arrays of "
    "model.weights by numpy.savez, under PyTorch's names and in PyTorch's layout",
}


def _read_safetensors(content: bytes) -> tuple[Nests, dict[str, str]]:
    arrays = {}
    for name, tensor in safetensors.deserialize(content):
        if tensor["dtype"] not in _SAFETENSORS:
            arrays[name] = unread(tensor["dtype"], tensor["shape"])
            continue
        flat = np.frombuffer(tensor["data"], _SAFETENSORS[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"])
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {"": arrays}, header.get("__metadata__", {})


_SAFETENSORS = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8},
    "BOOL": np.bool_,
}


def _read_zip(content: bytes) -> tuple[Nests, dict[str, str]]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as error:
        raise ValueError(f"a zip archive that is cut off or damaged ({error})") from error
    with archive:
        names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return _read_npz(content)
        if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
            raise ValueError(
                "a TorchScript module: load it by torch.jit.load and save its state_dict()"
            )
        if "config.json" in names:
            raise ValueError(_OTHERS[b"\x89HDF"].replace("an HDF5", "a .keras"))
        return read_zip(content, archive)


def _read_npz(content: bytes) -> tuple[Nests, dict[str, str]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {"": {name: a for name, a in archive.items() if isinstance(a, np.ndarray)}}, {}
