"""Features: the stages of a set of images, computed once and read by rows."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np

from posjax import runtime
from posjax.encoders import Encoder
from posjax.features import store as storage
from posjax.features.encoding import Batch, EncodingOptions, encode_batches
from posjax.features.store import SUFFIX, Layout, Store
from posjax.images import Source, select
from posjax.runtime import Waits, progress

# Part of every address: raise it when the same images and weights give other stages.
RECIPE = 4


@runtime_checkable
class Rows(Protocol):
    """One stage of n images, [n, h, w, c]. Arrays of indices choose rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, h, w, c]."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """That of all values."""
        ...

    def __getitem__(self, index: np.ndarray, /) -> np.ndarray:
        """The chosen images."""
        ...


@dataclasses.dataclass(frozen=True)
class Features:
    """The stages of this host's images: {"f1": [n, h, w, c], …}, in memory or in a file.

    `total` is the number of images of all hosts.
    """

    stages: Mapping[str, Rows]
    total: int

    def __len__(self) -> int:
        return next(iter(self.stages.values())).shape[0]

    def rows(self, index: np.ndarray, stages: Sequence[str]) -> Batch:
        """The chosen stages of the chosen images.

        Raises:
            ValueError: the file is damaged, or an image cannot be encoded again; names it.
        """
        return {stage: self.stages[stage][index] for stage in stages}

    def stream(self, indices: Iterable[np.ndarray], stages: Sequence[str]) -> Iterator[Batch]:
        """The `rows` of each index. A thread reads them while the caller works on those before.

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
    """Stages that are encoded again for each batch. `stages` has their shapes."""

    stages: Layout
    encoder: Encoder
    source: Source
    options: EncodingOptions

    def rows(self, index: np.ndarray, stages: Sequence[str]) -> Batch:
        if not len(index):
            empty = {stage: self.stages[stage] for stage in stages}
            return {k: np.zeros((0, *x.shape[1:]), x.dtype) for k, x in empty.items()}
        chosen = select(self.source, index.tolist())
        parts = list(encode_batches(self.encoder, chosen, self.options, Waits()))
        return {stage: np.concatenate([part[stage] for part in parts]) for stage in stages}


def encode(
    encoder: Encoder,
    source: Source,
    size: int,
    store: Store,
    options: EncodingOptions,
    waits: Waits | None = None,
) -> Features:
    """Encodes each of this host's images once, or finds the stages in the store's folder.

    Args:
        encoder: the frozen encoder.
        source: the images of all hosts.
        size: the side of the part of each image that is probed, pixels; `encoder.margins` come in
            addition.
        store: where the stages are kept. Stages that fit nowhere are encoded again for each batch,
            and are the same.
        options: how they are computed.
        waits: counts the time of encoding.

    Files have addresses made of all that determines their content: encoder, weights, padding,
    normalisation, arithmetic, the images' content and size, feature size and dtype. A file is there
    whole or not at all. Of several processes one encodes, the others wait.

    Raises:
        ValueError: an image cannot be read, a stage is not finite, or a file is damaged; names it.
        OSError: the disk is full, or the file was deleted while it was written; names the folder.
    """
    images = select(source, runtime.local_range(len(source)))
    layout = options.layout(encoder.stage_shapes(size), len(images))
    needed = storage.file_bytes(layout)
    folder = store.folder(needed)
    waits = Waits() if waits is None else waits
    if folder is None:
        stages = _in_memory(layout, _with_progress(encoder, images, options, waits))
        return Features(stages, len(source))
    path = folder / f"{_address(encoder, images, options)}{SUFFIX}"
    if path.exists():
        return Features(storage.read(path), len(source))
    with storage.writing(path) as written:
        fits = written or store.fits(needed)
        if fits and not written:
            storage.write(path, layout, _with_progress(encoder, images, options, waits))
    if fits:
        return Features(storage.read(path), len(source))
    progress.note(
        f"the features of {len(images)} images of {source.name} under padding "
        f"{encoder.padding_text} do not fit into the room that {folder} may take: they are encoded "
        "again for each batch"
    )
    return _Streamed(layout, len(source), encoder, images, options)


def _in_memory(layout: Layout, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
    stages = {name: np.empty(stage.shape, stage.dtype) for name, stage in layout.items()}
    done = 0
    for batch in batches:
        count = len(next(iter(batch.values())))
        for name, rows in batch.items():
            stages[name][done : done + count] = rows
        done += count
    return stages


def _with_progress(
    encoder: Encoder, images: Source, options: EncodingOptions, waits: Waits
) -> Iterator[Batch]:
    if not len(images):
        return
    title = f"encode {encoder.padding_text} {images.name}"
    with progress.bar(len(images), title, "images") as bar:
        for batch in encode_batches(encoder, images, options, waits):
            yield batch
            progress.advance(bar, len(next(iter(batch.values()))))


def _address(encoder: Encoder, images: Source, options: EncodingOptions) -> str:
    platform, precision = options.devices[0].platform, runtime.matmul_precision()
    about = {
        "recipe": RECIPE,
        "images": images.digest(),
        "feature_size": options.feature_size,
        "feature_dtype": options.dtype,
        "precision": precision,
        # A CPU may not take what a TPU multiplied in bfloat16 for its own float32.
        "rounding": runtime.rounding_step(encoder.dtype, platform, precision),
        **encoder.fingerprint(),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
