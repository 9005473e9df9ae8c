"""PyTorch's names and layouts of an encoder's entries, and the Flax variables made of them."""

import functools
from collections.abc import Mapping
from typing import cast

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from posjax.encoders.blocks import abstract_init
from posjax.encoders.factory import create, has_head, names

Variables = dict[str, dict]
HEAD_LAYERS = ("classifier", "fc", "linear")  # the first parts of the names of classifier heads


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """The Flax variables of encoder `name` out of a PyTorch state dict.

    Names are those of torchvision, timm, or, for CIFAR's ResNets, akamaster/pytorch_resnet_cifar10.
    The classifier head may be left out as a whole.

    Returns:
        Float32 arrays in the tree of `create(name, num_classes=…).init`.

    Raises:
        ValueError: entries are missing, unknown or of another shape, of which the message lists ten
            each; values are no real numbers, or not finite in float32.
    """
    arrays = torchvision_names(name, state_dict)
    wrong = problems(name, arrays)
    if any(wrong.values()):
        raise ValueError(_message(name, arrays, wrong))
    expected = entries(name, _num_classes(arrays))
    return unflatten_dict(
        {path: _flax_layout(key, arrays[key]) for key, (path, _) in expected.items()}
    )


def problems(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """What keeps arrays from being those of encoder `name`: entries by what is wrong with them."""
    expected = entries(name, _num_classes(arrays))
    return {
        "missing": [key for key in expected if key not in arrays],
        "unknown": [key for key in arrays if key not in expected],
        "of another shape": [
            f"{key} {arrays[key].shape}, expected {shape}"
            for key, (_, shape) in expected.items()
            if key in arrays and arrays[key].shape != shape
        ],
    }


def _num_classes(arrays: Mapping[str, np.ndarray]) -> int | None:
    head = [key for key in arrays if key.split(".")[0] in HEAD_LAYERS]
    if not head:
        return None
    return next((len(arrays[key]) for key in sorted(head)[::-1] if arrays[key].ndim), 1)


def _message(name: str, arrays: Mapping[str, np.ndarray], wrong: dict[str, list[str]]) -> str:
    fitting = [
        other
        for other in names()
        if other != name and has_head(other) and not any(problems(other, arrays).values())
    ]
    if fitting:
        start = f"these are the weights of {' or '.join(fitting)}, not of {name}"
    elif not set(entries(name, None)) & set(arrays):
        start = f"no layer of {name} is among them, such as {next(iter(entries(name, None)))}"
    else:
        start = f"these are not the weights of {name}"
    lists = [
        f"{len(keys)} {what}: {', '.join(keys[:_LISTED])}{', …' if len(keys) > _LISTED else ''}"
        for what, keys in wrong.items()
        if keys
    ]
    return "; ".join([start, *lists])


_LISTED = 10


def torchvision_names(name: str, state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by torchvision's names, without the counters of batches.

    Raises:
        ValueError: an entry is there twice.
    """
    arrays = {}
    for key, array in state_dict.items():
        if key.endswith(".num_batches_tracked"):
            continue
        renamed, array = key, np.asarray(array)
        if name.startswith("vgg"):
            for timm, torchvision in _TIMM_VGG_HEAD.items():
                if key.startswith(timm):
                    renamed = torchvision + key.removeprefix(timm)
                    # timm's head slides over the map; torchvision's sees it flattened.
                    array = array.reshape(len(array), -1) if array.ndim == 4 else array
        if renamed in arrays:
            raise ValueError(f"{renamed} is there twice, once as timm names it")
        arrays[renamed] = array
    return arrays


_TIMM_VGG_HEAD = {
    "pre_logits.fc1.": "classifier.0.",
    "pre_logits.fc2.": "classifier.3.",
    "head.fc.": "classifier.6.",
}


@functools.cache
def entries(name: str, num_classes: int | None) -> dict[str, tuple[tuple[str, ...], tuple]]:
    """An encoder's entries by PyTorch's names: (path in the Flax tree, shape in PyTorch)."""
    _, tree = abstract_init(create(name, num_classes=num_classes))
    entries = {}
    leaves = cast(dict[tuple[str, ...], jax.ShapeDtypeStruct], flatten_dict(tree))
    for path, leaf in leaves.items():
        _, *modules, kind = path
        key = ".".join(modules).replace("_", ".") + "." + _LEAVES[kind]
        # Kernels: height, width, in, out → out, in, height, width; or in, out → out, in.
        shape = leaf.shape[:-3:-1] + leaf.shape[:-2]
        entries[key] = (path, shape)
    return entries


_LEAVES = {
    **{"kernel": "weight", "scale": "weight", "bias": "bias"},
    **{"mean": "running_mean", "var": "running_var"},
}


def _flax_layout(key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        kind = array.dtype.names[0] if array.dtype.names else array.dtype
        raise ValueError(f"{key} is of type {kind}, expected float32 or another type of numbers")
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32))
    if not finite.all():
        raise ValueError(f"{np.sum(~finite)} of the {array.size} values of {key} are not finite")
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim]
    return np.array(array.transpose(axes), np.float32, order="C")
