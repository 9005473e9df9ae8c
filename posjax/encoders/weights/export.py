"""Weights as files with PyTorch's names: the way back from Flax variables."""

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike
from safetensors.numpy import save

from posjax.encoders.weights.torch_names import entries
from posjax.layers import Arrays
from posjax.runtime import encodable

HEADS = frozenset(("fc", "linear", "classifier_6"))
"""The layers that tell classes apart, by their names in the Flax tree."""


def to_torch(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict that `from_torch` reads back, of variables with or without the head.

    Raises:
        KeyError: the variables are of another encoder.
    """
    leaves = cast(dict[tuple[str, ...], Arrays], flatten_dict(dict(variables)))
    classes = [leaf.shape[-1] for path, leaf in leaves.items() if path[1] in HEADS]
    expected = entries(name, classes[0] if classes else None)
    if {path for path, _ in expected.values()} != leaves.keys():
        raise KeyError(f"these are not the variables of {name}")
    return {key: _torch_layout(leaves[path]) for key, (path, _) in expected.items()}


def to_safetensors(
    name: str, variables: Mapping[str, Any], metadata: Mapping[str, str], dtype: DTypeLike
) -> bytes:
    """The content of a `.safetensors` file that `load` reads.

    BatchNorm's entries stay in float32: they are few, and a variance may leave half precision's
    range. Of `metadata`, `load_with_info` reads `normalize`.
    """
    return safetensors_bytes(as_stored(name, variables, dtype), metadata)


def safetensors_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The content of a `.safetensors` file, always the same for the same arrays and metadata."""
    about = {key: encodable(text) for key, text in sorted(metadata.items())}
    content = save(dict(arrays), about)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    # The library writes metadata in another order each time.
    if about:
        header["__metadata__"] = about
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # arrays are aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[start:]


def as_stored(name: str, variables: Mapping[str, Any], dtype: DTypeLike) -> dict[str, np.ndarray]:
    """The state dict with kernels in `dtype`, as `to_safetensors` writes it."""
    return {
        key: array.astype(dtype if array.ndim > 1 else np.float32)
        for key, array in to_torch(name, variables).items()
    }


def _torch_layout(array: Arrays) -> np.ndarray:
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[np.ndim(array)]
    return np.ascontiguousarray(np.asarray(array).transpose(axes))
