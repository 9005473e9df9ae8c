"""Pretrained weights: PyTorch's state dicts as Flax variables, from files or Hugging Face's hub."""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np

from posjax.encoders import checkpoint_files
from posjax.encoders.factory import create
from posjax.encoders.shipped import shipped_path

Variables = dict[str, dict]

FILE = "model.safetensors"
_TIMEOUT = 10.0


@dataclasses.dataclass(frozen=True)
class Pin:
    """A version of a file on the hub: a commit (or a branch, if `sha256` is known) and a digest."""

    revision: str
    sha256: str


# Commits and digests as other projects published them for the same files. A digest suffices: what a
# branch points to is refused if it has another one. What is None here is pinned on each machine by
# the first load there, see `_fetch`.
PINNED: dict[str, Pin | None] = {
    "vgg11": Pin("main", "682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5"),
    "vgg11_bn": None,
    "vgg13": None,
    "vgg13_bn": None,
    "vgg16": Pin(
        "b8d8aa2dd860af9233c8c67385a8097fd6c35d3f",
        "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
    ),
    "vgg16_bn": None,
    "vgg19": None,
    "vgg19_bn": None,
    "resnet18": Pin(
        "bbd144b3e5565108aad885f145491d11bc6ce807",
        "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    ),
    "resnet34": Pin(
        "1b7b21cca82ff974d341713f777bf740c2db38c4",
        "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    ),
    "resnet50": Pin(
        "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    ),
    "resnet101": None,
    "resnet152": None,
}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder's variables, the SHA-256 of their file, and the normalisation they expect.

    `normalize` is "imagenet" for the hub's weights, also where a file holds a copy of the pinned
    ones; or else what the file's metadata say under "normalize", or None where they say nothing.
    """

    variables: Variables
    digest: str
    normalize: str | None


def load(name: str, source: str | os.PathLike) -> Variables:
    """The variables of an encoder, out of a file of weights or from the hub.

    Args:
        name: one of `posjax.encoders.names()`.
        source: a path to a `.safetensors`, `.npz`, `.pth`, `.th` or `.pt` file with PyTorch's
            names; "imagenet": torchvision's first ImageNet weights, as published by timm; or
            "cifar10:MODE": trained under that padding mode, out of posjax.

    Returns:
        Float32 arrays in the tree of `create(name).init`.

    Raises:
        FileNotFoundError: there is no such file, or it can't be fetched from the hub.
        ValueError: the weights are not in a readable file, not of this encoder, or not the pinned
            ones; or there are no ImageNet weights for this encoder.
    """
    return load_with_info(name, source).variables


def load_with_info(name: str, source: str | os.PathLike) -> Loaded:
    """As `load`, with what a run has to record about its weights."""
    is_hub = source == "imagenet"
    source = shipped_path(name, str(source)) or source
    checkpoint = _read_from_hub(name) if is_hub else checkpoint_files.read(source)
    is_copy = checkpoint.digest in {pin.sha256 for pin in PINNED.values() if pin}
    normalize = "imagenet" if is_hub or is_copy else checkpoint.metadata.get("normalize")
    try:
        variables = from_torch(name, checkpoint.arrays)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return Loaded(variables, checkpoint.digest, normalize)


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Converts a PyTorch state dict of an encoder into its Flax variables.

    Args:
        name: one of `posjax.encoders.names()`.
        state_dict: arrays by PyTorch's names, as in torchvision, timm, or, for CIFAR's ResNets,
            akamaster/pytorch_resnet_cifar10. The classifier head may be left out as a whole.

    Returns:
        Float32 arrays in the tree of `create(name, num_classes=…).init`.

    Raises:
        ValueError: entries are missing, unknown or of another shape; the message lists them all.
    """
    found = _torchvision_names(name, state_dict)
    head = [key for key in found if key.split(".")[0] in ("classifier", "fc", "linear")]
    num_classes = next((len(found[k]) for k in sorted(head)[::-1] if found[k].ndim), 1)
    expected = entries(name, num_classes if head else None)

    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    reshaped = [
        f"{key} {found[key].shape}, expected {shape}"
        for key, (_, shape) in expected.items()
        if key in found and found[key].shape != shape
    ]
    problems = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    if any(problems.values()):
        lists = [f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
        raise ValueError(f"these are not the weights of {name}; " + "; ".join(lists))
    return flax.traverse_util.unflatten_dict(
        {path: _flax_layout(found[key]) for key, (path, _) in expected.items()}
    )


def _torchvision_names(name: str, state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
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
        if renamed in found:
            raise ValueError(f"{renamed} is there twice, once as timm names it")
        found[renamed] = array
    return found


_TIMM_VGG_HEAD = {
    "pre_logits.fc1.": "classifier.0.",
    "pre_logits.fc2.": "classifier.3.",
    "head.fc.": "classifier.6.",
}


@functools.cache
def entries(name: str, num_classes: int | None) -> dict[str, tuple[tuple[str, ...], tuple]]:
    """An encoder's entries by PyTorch's names: (path in the Flax tree, shape in PyTorch)."""
    encoder = create(name, num_classes=num_classes)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    tree = jax.eval_shape(encoder.init, jax.random.key(0), images)
    entries = {}
    for path, leaf in flax.traverse_util.flatten_dict(tree).items():
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


def _read_from_hub(name: str) -> checkpoint_files.Checkpoint:
    if name not in PINNED:
        raise ValueError(
            f"there are no ImageNet weights for encoder {name!r}, only for {', '.join(PINNED)}; "
            "pass a file with --weights=PATH"
        )
    path, pin = _fetch(name)
    checkpoint = checkpoint_files.read(path, digest=pin.sha256)
    if pin not in (PINNED[name], _recorded(name)):
        _record(name, pin)
    return checkpoint


def _fetch(name: str) -> tuple[str, Pin]:
    """Finds an encoder's file in the hub's cache or on the hub, and the version it has to be.

    That version is the pinned one, or the one that the first load on this machine recorded, or
    else the newest, which the caller records once its digest is verified.
    """
    # It takes a while to import, and most runs never need it.
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    repo = f"timm/{name}.tv_in1k"
    pin = PINNED[name] or _recorded(name)
    if pin:
        cached = huggingface_hub.try_to_load_from_cache(repo, FILE, revision=pin.revision)
        if isinstance(cached, str):
            return cached, pin
    url = huggingface_hub.hf_hub_url(repo, FILE, revision=pin.revision if pin else "main")
    try:
        # Asked even for a pinned version: without a network it fails at once, while the download
        # retries for half a minute.
        newest = huggingface_hub.get_hf_file_metadata(url, timeout=_TIMEOUT)
        pin = pin or _pin_of(newest.commit_hash, newest.etag, url)
        return huggingface_hub.hf_hub_download(repo, FILE, revision=pin.revision), pin
    except (OSError, HTTPError) as error:
        raise FileNotFoundError(
            f"the ImageNet weights of {name} are not cached and could not be fetched from the hub "
            f"({type(error).__name__}: {error}). Fetch {FILE} of {repo} by hand, from {url}, and "
            "pass it with --weights=PATH; {padding} in PATH stands for the padding mode"
        ) from error


def _pin_of(commit: str | None, etag: str | None, url: str) -> Pin:
    # For large files the hub's entity tag is the SHA-256 under which they are stored.
    if not (commit and re.fullmatch("[0-9a-f]{64}", etag or "")):
        raise ValueError(
            f"the hub names no commit and SHA-256 of {url}, but {commit!r} and {etag!r}"
        )
    return Pin(commit, etag)


def _recorded(name: str) -> Pin | None:
    path = _record_path(name)
    return Pin(**json.loads(path.read_text())) if path.exists() else None


def _record(name: str, pin: Pin) -> None:
    path = _record_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(dataclasses.asdict(pin)))
    partial.replace(path)


def _record_path(name: str) -> Path:
    from huggingface_hub import constants  # as in `_fetch`

    cache = Path(constants.HF_HUB_CACHE)
    return cache.with_name(f"{cache.name}-posjax-pins") / f"{name}.json"
