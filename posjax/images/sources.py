"""Sources: one short text, the spec, opens a folder, a dataset or a generator of images."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import SupportsIndex, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from posjax.images import dead_leaves, loader
from posjax.images.datasets import open_records
from posjax.images.folders import files_of, usable
from posjax.images.in_memory import InMemory
from posjax.images.loader import EightBit, Source, check_header, decode, load, to_bytes
from posjax.runtime import memory_bytes

T = TypeVar("T")

SPECS = "dead_leaves, noise, black, white, tfds:NAME[:SPLIT] or the path of a folder"

_CONSTANTS = {"black": 0, "white": 255}
_UNREADABLE = "files cannot be read as images"


def open_source(
    spec: str | InMemory,
    *,
    size: int,
    limit: int | None = None,
    seed: int = 0,
    skip_bad_images: bool = False,
    manual_dir: Path | None = None,
) -> Source:
    """Opens a source of images of size × size pixels, float32 RGB in [0, 1] of 8 bits a value.

    Args:
        spec: one of `SPECS`, or arrays as `InMemory`. `black` and `white` are one image, whatever
            `limit`. A folder is searched recursively for files in one of `loader.FORMATS`; links
            are followed, hidden names ignored; one with the name of a generator is written
            `./noise`. A dataset has a feature `image`; its name may hold a configuration, but no
            version.
        size: height and width in pixels, to which images from files are resized, see `loader.load`.
        limit: number of images. Required for endless sources; where a finite one has more, a
            random sample is taken and kept in order, because the first images may be of one class.
        seed: of the sample and of the generators. Image i of a generator depends on (seed, i)
            alone, so two seeds share no image, and a larger limit only appends.
        skip_bad_images: decode all files of a folder or records of a dataset, leave out those that
            are no images, and list them in `skipped`. Otherwise only headers of files are read now,
            and damage shows on reading.
        manual_dir: of archives of a `tfds:` dataset that were downloaded by hand; by default
            downloads/manual under TFDS_DATA_DIR.

    Raises:
        ValueError: the spec names nothing; a number is out of range, or `limit` above the number
            of images; a folder is empty or holds anything but images (the first ten are listed); a
            dataset cannot be read.
    """
    for name, value, least in (("size", size, 1), ("limit", limit, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise ValueError(f"{name} starts at {least}, got {value}")
    if isinstance(spec, InMemory):
        return spec.source(_sampled(spec.name, range(len(spec)), limit, seed), size)
    if spec in _CONSTANTS:
        return _constant(spec, size)
    if spec in _GENERATORS:
        return _generated(spec, size, limit, seed)
    if spec.startswith("tfds:"):
        return _dataset(spec, size, limit, seed, skip_bad_images, manual_dir)
    return _folder(spec, size, limit, seed, skip_bad_images)


@dataclass(frozen=True)
class _Images(EightBit):
    """A source made of two functions: one reads an image, one lists what determines them all."""

    name: str
    keys: tuple[str, ...]
    size: int
    read: Callable[[int], UInt8[np.ndarray, "size size 3"]]
    content: Callable[[], Iterable[bytes]]
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        return self.read(range(len(self))[index])

    def digest(self) -> str:
        return self._digest

    @cached_property
    def _digest(self) -> str:
        # Cached, because it reads every file, and every encoder uses it.
        total = hashlib.sha256()
        for part in (loader.RECIPE.encode(), str(self.size).encode(), *self.content()):
            # Hashing each part first keeps ("ab", "c") apart from ("a", "bc").
            total.update(hashlib.sha256(part).digest())
        return total.hexdigest()


def check_stored(spec: str, expected: str = "a folder, or tfds:NAME[:SPLIT]") -> None:
    """Raises ValueError where a spec names neither a folder that is there nor a dataset."""
    if spec.startswith("tfds:"):
        return
    path = Path(spec).expanduser()
    if spec in _CONSTANTS or spec in _GENERATORS:
        problem = f"{spec} is generated, without labels or masks"
    elif not spec or not path.is_dir():
        problem = f"{spec} is a file" if spec and path.exists() else f"no folder {spec!r}"
    else:
        return
    raise ValueError(f"{problem}; expected {expected}")


def _constant(spec: str, size: int) -> Source:
    image = np.full((size, size, 3), _CONSTANTS[spec], np.uint8)
    return _Images(spec, (spec,), size, lambda _: image.copy(), lambda: [spec.encode()])


def _generated(spec: str, size: int, limit: int | None, seed: int) -> Source:
    if limit is None:
        raise ValueError(f"{spec} never ends: say how many images with limit")
    needed, there = limit * sys.getsizeof(f"{spec}/{limit}"), memory_bytes()
    if needed > there:
        raise ValueError(
            f"the names of {limit:,} images alone need {needed / 1e9:,.1f} GB of memory, and this "
            f"machine has {there / 1e9:,.1f} GB: choose fewer images"
        )
    version, draw = _GENERATORS[spec]
    keys = tuple(f"{spec}/{index}" for index in range(limit))

    def read(index: int) -> UInt8[np.ndarray, "size size 3"]:
        # A spawn key, unlike default_rng([seed, index]), cannot mix up the words of large seeds.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        return to_bytes(draw(size, rng), keys[index])

    content = [text.encode() for text in (version, str(seed), str(limit))]
    return _Images(spec, keys, size, read, lambda: content)


def _noise(size: int, rng: np.random.Generator) -> Float[np.ndarray, "size size 3"]:
    return rng.random((size, size, 3), dtype=np.float32)


_GENERATORS = {
    "dead_leaves": (dead_leaves.VERSION, dead_leaves.dead_leaves),
    "noise": ("noise 2", _noise),
}


def _dataset(
    spec: str,
    size: int,
    limit: int | None,
    seed: int,
    skip_bad_images: bool,
    manual_dir: Path | None,
) -> Source:
    """The digest rests on the dataset's name, version, split and recorded sizes of its shards.

    Image bytes that were exchanged for others inside a shard of the same recorded size escape it.
    """
    records = open_records(spec, manual_dir)

    def check(key: str) -> None:
        decode(records[key]["image"], key)

    good, bad = records.keys, ()
    if skip_bad_images:
        good, bad = usable(good, check, spec, _UNREADABLE, skip=True)
    keys = _sampled(spec, list(good), limit, seed)

    def read(index: int) -> UInt8[np.ndarray, "size size 3"]:
        return load(records[keys[index]]["image"], keys[index], size)

    facts = (records.rows.dataset_info.as_json, *keys)
    return _Images(spec, keys, size, read, lambda: map(str.encode, facts), skipped=bad)


def _folder(spec: str, size: int, limit: int | None, seed: int, skip_bad_images: bool) -> Source:
    check_stored(spec, SPECS)
    root = Path(spec).expanduser()
    names = sorted(path.relative_to(root).as_posix() for path in files_of(root))
    if not names:
        raise ValueError(f"{spec} is a folder without files")

    def check(name: str) -> None:
        check_header(root / name, name)
        if skip_bad_images:
            decode((root / name).read_bytes(), name)

    good, bad = usable(names, check, spec, _UNREADABLE, skip=skip_bad_images)
    keys = _sampled(spec, list(good), limit, seed)

    def read(index: int) -> UInt8[np.ndarray, "size size 3"]:
        path = root / keys[index]
        return load(path.read_bytes(), str(path), size)

    def digest(key: str) -> bytes:
        return hashlib.sha256((root / key).read_bytes()).digest()

    def content() -> Iterator[bytes]:
        yield from map(os.fsencode, keys)
        with ThreadPool(loader.THREADS) as pool:
            yield from pool.imap(digest, keys, chunksize=64)

    return _Images(spec, keys, size, read, content, skipped=bad)


def _sampled(spec: str, keys: Sequence[T], limit: int | None, seed: int) -> tuple[T, ...]:
    """The images to keep, in their order."""
    if limit is None:
        return tuple(keys)
    if limit > len(keys):
        raise ValueError(f"{spec} has {len(keys)} images, fewer than {limit}")
    chosen = np.sort(np.random.default_rng(seed).choice(len(keys), limit, replace=False))
    return tuple(keys[index] for index in chosen)
