"""Features: the stages of a set of images, computed once and read by rows."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from posjax import runtime
from posjax.encoders import Encoder
from posjax.features import store as storage
from posjax.features.encoding import Batch, EncodingOptions, encode_batches, layout_bytes
from posjax.features.store import Layout, StageFile, Store
from posjax.images import Source, select
from posjax.runtime import Waits, progress

# Part of every file's name: raise it when the same images and weights give another file.
RECIPE = 5


@dataclasses.dataclass(frozen=True)
class Features:
    """The stages of this host's images: {"f1": [n, h, w, c], …}, in memory or in a file.

    `total` is the number of images of all hosts.
    """

    stages: Mapping[str, np.ndarray | StageFile]
    total: int

    def __len__(self) -> int:
        return _count(self.stages)

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
        """The chosen stages of the chosen images."""
        chosen = select(self.source, index.tolist())
        kept = {name: self.stages[name] for name in stages}
        layout = {k: x.update(shape=(len(index), *x.shape[1:])) for k, x in kept.items()}
        return _in_memory(layout, encode_batches(self.encoder, chosen, self.options, Waits()))


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
        size: the side of the part of each image that is probed, pixels, without `encoder.margins`.
        store: where the stages are kept. Stages that fit nowhere are encoded again for each batch.
        options: how they are computed.
        waits: counts the time of encoding.

    A file's name is a digest of all that determines its content: encoder, weights, padding,
    normalisation, arithmetic, the images' content and size, feature size and dtype. The file is
    there whole or not at all. Of several processes one encodes, the others wait.

    Raises:
        ValueError: an image cannot be read, a stage is not finite, or a file is damaged; names it.
        OSError: the disk is full, or the file was deleted while it was written; names the folder.
    """
    images = select(source, runtime.local_range(len(source)))
    layout = options.layout(encoder.stage_shapes(size), len(images))
    batches = _with_progress(encoder, images, options, waits or Waits())
    needed = layout_bytes(layout)
    folder = store.folder(needed)
    if folder is None:
        return Features(_in_memory(layout, batches), len(source))
    path = folder / f"{_address(encoder, images, options)}{storage.SUFFIX}"
    if not path.exists():
        with storage.writing(path):
            # Another process may have written it meanwhile.
            if not path.exists():
                if not store.fits(needed):
                    progress.note(
                        f"the features of {len(images)} images of {source.name} under padding "
                        f"{encoder.padding_text} do not fit into the room that {folder} may take: "
                        "they are encoded again for each batch"
                    )
                    return _Streamed(layout, len(source), encoder, images, options)
                storage.write(path, layout, batches)
    return Features(storage.read(path, layout), len(source))


def _in_memory(layout: Layout, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
    stages = {name: np.empty(stage.shape, stage.dtype) for name, stage in layout.items()}
    done = 0
    for batch in batches:
        count = _count(batch)
        for name, rows in stages.items():
            rows[done : done + count] = batch[name]
        done += count
    return stages


def _with_progress(
    encoder: Encoder, images: Source, options: EncodingOptions, waits: Waits
) -> Iterator[Batch]:
    title = f"encode {encoder.padding_text} {images.name}"
    with progress.bar(len(images), title, "images") as bar:
        for batch in encode_batches(encoder, images, options, waits):
            yield batch
            progress.advance(bar, _count(batch))


def _count(stages: Mapping[str, Any]) -> int:
    return next(iter(stages.values())).shape[0]


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
        # As files were named before it counted.
        **({"x64": True} if runtime.arithmetic()["x64"] else {}),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
