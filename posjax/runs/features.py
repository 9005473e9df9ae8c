"""Features: each image passes through the frozen encoder once, and its stages are kept on disk."""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posjax.images import Source, batches
from posjax.layers import resize_bilinear
from posjax.runs import parallel, progress
from posjax.runs.frozen import FrozenEncoder, statistics_of

# Another recipe for the same images and weights must not find what this one stored.
RECIPE = 1


@dataclasses.dataclass(frozen=True)
class Features:
    """The stages of n images, memory-mapped: {"f1": [n, h, w, c], …}.

    Stages larger than the readout's feature size are stored at that size, the others at their
    own.
    """

    stages: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.stages.values())))

    def rows(self, index: np.ndarray, stages: Sequence[str]) -> dict[str, np.ndarray]:
        """The chosen stages of the chosen images."""
        return {stage: self.stages[stage][index] for stage in stages}


def encode(
    encoder: FrozenEncoder,
    source: Source,
    directory: Path,
    *,
    feature_size: tuple[int, int] = (28, 28),
    dtype: str = "bfloat16",
    batch_size: int = 32,
    devices: Sequence[jax.Device],
) -> Features:
    """Encodes every image of `source` once, or finds its features in `directory`.

    Features are addressed by all that determines them: encoder, weights, padding, normalisation,
    the images' content and size, feature size and dtype. They appear under their address only
    when they are whole.

    Raises:
        ValueError: an image cannot be read, or a stage is not finite; names it.
    """
    address = _address(encoder, source, feature_size, dtype)
    found = directory / address
    if not found.exists():
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = directory / f".{address}.{uuid.uuid4().hex}.tmp"
        unfinished.mkdir()
        try:
            _write(unfinished, encoder, source, feature_size, dtype, batch_size, devices)
            # Another process may have encoded the same meanwhile: its features are these.
            if not found.exists():
                os.rename(unfinished, found)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return _open(found)


def bytes_per_image(
    shapes: dict[str, tuple[int, int, int]], feature_size: tuple[int, int], dtype: str
) -> int:
    """How much room the stages of one image take in the cache."""
    values = sum(np.prod(_stored_size(s[:2], feature_size)) * s[2] for s in shapes.values())
    return int(values) * jnp.dtype(dtype).itemsize


def _address(
    encoder: FrozenEncoder, source: Source, feature_size: tuple[int, int], dtype: str
) -> str:
    about = {
        "recipe": RECIPE,
        "images": source.digest(),
        "feature_size": feature_size,
        "dtype": dtype,
        **encoder.identity(),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _stored_size(size: tuple[int, int], feature_size: tuple[int, int]) -> tuple[int, int]:
    smaller = size[0] <= feature_size[0] and size[1] <= feature_size[1]
    return tuple(size) if smaller else tuple(feature_size)


def _write(
    directory: Path,
    encoder: FrozenEncoder,
    source: Source,
    feature_size: tuple[int, int],
    dtype: str,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> None:
    step = _encode_step(encoder.module, encoder.normalize, feature_size, dtype, tuple(devices))
    variables = parallel.replicate(encoder.variables, devices)
    arrays: dict[str, np.memmap] = {}
    done = 0
    with progress.bar(len(source), f"encode {encoder.padding} {source.name}", "images") as bar:
        for images in batches(source, batch_size):
            shards, _ = parallel.split(images, batch_size, devices)
            stages, finite = parallel.join(step(variables, shards), len(images))
            if not finite.all():
                wrong = source.keys[done + int(np.argmin(finite))]
                raise ValueError(
                    f"{encoder.name} under padding {encoder.padding} gives features of image "
                    f"{wrong} of {source.name} that are not finite in {dtype}"
                )
            for name, values in stages.items():
                if name not in arrays:
                    shape = (len(source), *values.shape[1:])
                    path = directory / f"{name}.npy"
                    arrays[name] = np.lib.format.open_memmap(
                        path, "w+", _storable(values).dtype, shape
                    )
                arrays[name][done : done + len(images)] = _storable(values)
            done += len(images)
            progress.advance(bar, len(images))
    for array in arrays.values():
        array.flush()
    shapes = {name: array.shape for name, array in arrays.items()}
    (directory / "about.json").write_text(json.dumps({"dtype": dtype, "stages": shapes}))


# Cached, because a compiled encoder serves all seeds and sources of images.
@functools.cache
def _encode_step(
    module: nn.Module,
    normalize: str,
    feature_size: tuple[int, int],
    dtype: str,
    devices: tuple[jax.Device, ...],
) -> Callable:
    mean, std = statistics_of(normalize)

    def step(
        variables: dict, images: Float[jax.Array, "n h w 3"]
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        stages = module.apply(variables, (images - mean) / std)
        small = {
            name: resize_bilinear(
                x, _stored_size(x.shape[1:3], feature_size), align_corners=True
            ).astype(dtype)
            for name, x in stages.items()
        }
        finite = jnp.stack([jnp.isfinite(x).all(axis=(1, 2, 3)) for x in small.values()]).all(0)
        return small, finite

    return parallel.pmap(step, devices)


def _open(directory: Path) -> Features:
    try:
        about = json.loads((directory / "about.json").read_text())
        stages = {}
        for name, shape in about["stages"].items():
            stored = np.load(directory / f"{name}.npy", mmap_mode="r")
            if list(stored.shape) != shape:
                raise ValueError(f"{name}.npy has shape {stored.shape}, expected {shape}")
            stages[name] = stored.view(jnp.dtype(about["dtype"]))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"the features in {directory} are damaged ({error}): delete that folder to encode the "
            "images anew"
        ) from error
    return Features(stages)


def _storable(values: np.ndarray) -> np.ndarray:
    # numpy's file format does not know bfloat16.
    return values.view(np.uint16) if values.dtype.itemsize == 2 else values
