"""PyTorch's names and layouts of an encoder's entries, and the Flax variables made of them."""

import functools
from collections.abc import Mapping
from typing import cast

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from posjax.encoders.blocks import abstract_init
from posjax.encoders.factory import create

Variables = dict[str, dict]
HEAD_LAYERS = ("classifier", "fc", "linear")  # the first parts of the names of classifier heads


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """The Flax variables of encoder `name` out of a PyTorch state dict.

    Names are those of torchvision, timm, or, for CIFAR's ResNets, akamaster/pytorch_resnet_cifar10.
    The classifier head may be left out as a whole.

    Returns:
        Float32 arrays in the tree of `create(name, num_classes=…).init`.

    Raises:
        ValueError: entries are missing, unknown or of another shape; the message lists them all.
    """
    arrays = _torchvision_names(name, state_dict)
    head = [key for key in arrays if key.split(".")[0] in HEAD_LAYERS]
    num_classes = next((len(arrays[k]) for k in sorted(head)[::-1] if arrays[k].ndim), 1)
    expected = entries(name, num_classes if head else None)

    missing = [key for key in expected if key not in arrays]
    unknown = [key for key in arrays if key not in expected]
    reshaped = [
        f"{key} {arrays[key].shape}, expected {shape}"
        for key, (_, shape) in expected.items()
        if key in arrays and arrays[key].shape != shape
    ]
    problems = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    if any(problems.values()):
        lists = [f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
        raise ValueError(f"these are not the weights of {name}; " + "; ".join(lists))
    return unflatten_dict({path: _flax_layout(arrays[key]) for key, (path, _) in expected.items()})


def _torchvision_names(name: str, state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
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


def _flax_layout(array: np.ndarray) -> np.ndarray:
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim]
    return np.array(array.transpose(axes), np.float32, order="C")
