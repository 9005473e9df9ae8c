"""Features: each image passes through the frozen encoder once, and its stages are kept on disk."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from posjax.images import Source, select
from posjax.runs import cache, progress
from posjax.runs.encoding import Encode, encode_with, layout, stored_size
from posjax.runs.frozen import FrozenEncoder
from posjax.runs.rounding import matmul_precision, rounding_step
from posjax.runs.waits import Waits

# Another recipe for the same images and weights must not find what this one stored.
RECIPE = 3


@runtime_checkable
class Rows(Protocol):
    """One stage of n images, [n, h, w, c], of which arrays of indices choose rows."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The chosen images."""
        ...


@dataclasses.dataclass(frozen=True)
class Features:
    """The stages of n images: {"f1": [n, h, w, c], …}, in memory or on disk.

    Stages larger than the readout's feature size are stored at that size, the others at their
    own.
    """

    stages: Mapping[str, Rows]

    def __len__(self) -> int:
        return next(iter(self.stages.values())).shape[0]

    def rows(self, index: np.ndarray, stages: Sequence[str]) -> dict[str, np.ndarray]:
        """The chosen stages of the chosen images.

        Raises:
            ValueError: a file is damaged, or an image cannot be encoded anew; names it.
        """
        return {stage: self.stages[stage][index] for stage in stages}

    def stream(
        self, indices: Iterable[np.ndarray], stages: Sequence[str]
    ) -> Iterator[dict[str, np.ndarray]]:
        """The `rows` of each index, read in a thread while the caller works on those before.

        What reading raises is raised here. The thread ends with the iterator.
        """
        with ThreadPoolExecutor(1, "read-features") as reader:
            pending = collections.deque()
            for index in indices:
                pending.append(reader.submit(self.rows, index, stages))
                if len(pending) > 1:
                    yield pending.popleft().result()
            yield from (read.result() for read in pending)


@dataclasses.dataclass(frozen=True)
class _Streamed(Features):
    """Stages that are encoded anew whenever they are asked for: `stages` has their shapes."""

    stages: cache.Layout
    source: Source
    encode: Encode

    def rows(self, index: np.ndarray, stages: Sequence[str]) -> dict[str, np.ndarray]:
        if not len(index):
            empty = {stage: self.stages[stage] for stage in stages}
            return {stage: np.zeros((0, *x.shape[1:]), x.dtype) for stage, x in empty.items()}
        parts = list(self.encode(select(self.source, index.tolist())))
        return {stage: np.concatenate([part[stage] for part in parts]) for stage in stages}


def encode(
    encoder: FrozenEncoder,
    source: Source,
    directory: Path,
    *,
    feature_size: tuple[int, int] = (28, 28),
    dtype: str = "bfloat16",
    batch_size: int = 32,
    devices: Sequence[jax.Device],
    limit_bytes: int | None = None,
    waits: Waits | None = None,
) -> Features:
    """Encodes every image of `source` once, or finds its features in `directory`.

    Features are addressed by all that determines them: encoder, weights, padding, normalisation,
    arithmetic, the images' content and size, feature size and dtype. They appear under their
    address only when they are whole; of several processes one encodes, and what a killed one left
    is continued. Where all that `directory` holds would exceed `limit_bytes`, nothing is stored:
    each batch is encoded anew when it is asked for, and is the same. `waits` counts the time of
    encoding.

    Raises:
        ValueError: an image cannot be read, a stage is not finite, or a file is damaged; names it.
        OSError: the disk is full, or the files were deleted while they were written; names the
            folder.
    """
    folder = directory / _address(encoder, source, feature_size, dtype, devices[0].platform)
    if not folder.exists():
        stages = layout(encoder, source, feature_size, dtype)
        anew = encode_with(encoder, feature_size, dtype, batch_size, devices, waits)

        def rows_from(done: int) -> Iterator[dict[str, np.ndarray]]:
            rest = select(source, range(done, len(source)))
            what = f"encode {encoder.padding} {source.name}"
            with progress.bar(len(rest), what, "images") as bar:
                for rows in anew(rest):
                    yield rows
                    progress.advance(bar, len(next(iter(rows.values()))))

        if not cache.fill(folder, stages, rows_from, limit_bytes):
            progress.note(
                f"the features of {len(source)} images of {source.name} under padding "
                f"{encoder.padding} do not fit into the {limit_bytes / 1e9:g} GB of "
                f"--cache_limit_gb with what {directory} holds: they are encoded anew for each "
                "batch"
            )
            return _Streamed(stages, source, anew)
    return Features(cache.read(folder))


def bytes_per_image(
    shapes: dict[str, tuple[int, int, int]], feature_size: tuple[int, int], dtype: str
) -> int:
    """How much room the stages of one image take in the cache."""
    values = sum(np.prod(stored_size(s[:2], feature_size)) * s[2] for s in shapes.values())
    return int(values) * jnp.dtype(dtype).itemsize


def _address(
    encoder: FrozenEncoder,
    source: Source,
    feature_size: tuple[int, int],
    dtype: str,
    platform: str,
) -> str:
    precision = matmul_precision()
    about = {
        "recipe": RECIPE,
        "images": source.digest(),
        "feature_size": feature_size,
        "feature_dtype": dtype,
        "precision": precision,
        # What a TPU multiplied in bfloat16, a CPU may not take for its own float32.
        "rounding": rounding_step(encoder.dtype, platform, precision),
        **encoder.identity(),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
