"""Images with masks of their salient objects: two folders with matching names, or a dataset."""

from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from posjax.images.datasets import open_records
from posjax.images.loader import Source, read_bytes
from posjax.images.selection import select
from posjax.images.sources import open_source

HALF = 127
"""Pixels of a mask above it are salient where they are counted."""


class Masked(NamedTuple):
    """Images and their masks: 0 to 255, from the surroundings to what is salient.

    `total` is the number of all images, of which these may be a part.
    """

    source: Source
    masks: UInt8[np.ndarray, "n size size"]
    total: int


def open_masked(
    images: str,
    masks: str | None = None,
    *,
    size: int,
    part: slice = slice(None),
    manual_dir: Path | None = None,
) -> Masked:
    """Opens a folder of images and one of masks, or `tfds:NAME[:SPLIT]` with a feature `mask`.

    A mask has the name of its image, and may have another ending. `part` of the images is taken,
    in the order of their names; all masks are resized as the images are, and read at once.

    Raises:
        ValueError: as `open_source`; an image without a mask, or the other way round; masks where
            the dataset has some already; a dataset without them; masks without a salient pixel; a
            part that holds no image.
    """
    if not images.startswith("tfds:") and not Path(images).expanduser().is_dir():
        raise ValueError(f"no folder {images!r}; images with masks are a folder, or tfds:NAME")
    source = open_source(images, size=size, manual_dir=manual_dir)
    order = sorted(range(len(source)), key=lambda index: _place(source, index))
    chosen = order[part]
    if not chosen:
        raise ValueError(
            f"{images} has {len(source)} images, and none of them is in the part that was chosen"
        )
    if images.startswith("tfds:"):
        if masks:
            raise ValueError(f"{images} has masks already: leave those in {masks} out")
        pixels = _of_dataset(images, chosen, size, manual_dir)
        return _checked(Masked(select(source, chosen), pixels, len(source)), images)
    if not masks:
        raise ValueError(f"{images} needs masks: a folder of files with the names of its images")
    pixels = _of_folder(source, images, chosen, open_source(masks, size=size))
    return _checked(Masked(select(source, chosen), pixels, len(source)), masks)


def _of_folder(
    source: Source, images: str, chosen: list[int], drawn: Source
) -> UInt8[np.ndarray, "n size size"]:
    masks = drawn.name
    by_name = {_stem(key): index for index, key in enumerate(drawn.keys)}
    names = [_stem(key) for key in source.keys]
    for stems, where in ((names, images), ([_stem(key) for key in drawn.keys], masks)):
        if len(set(stems)) < len(stems):
            raise ValueError(f"{where}: two files have the same name but for their ending")
    alone = sorted(by_name.keys() ^ set(names))
    if alone:
        raise ValueError(
            f"{len(alone)} of the images in {images} and the masks in {masks} have no counterpart "
            f"of their name, such as {alone[0]}"
        )
    pixels = read_bytes(select(drawn, [by_name[names[index]] for index in chosen]))
    return np.ascontiguousarray(pixels[..., 0])


def _checked(masked: Masked, where: str) -> Masked:
    if masked.masks.max() <= HALF:
        raise ValueError(
            f"the masks in {where} have no salient pixel: their largest value is "
            f"{masked.masks.max()}, and 255, white, is salient"
        )
    return masked


def _place(source: Source, index: int) -> tuple[str, int]:
    # The keys of a dataset end in numbers, so it is sorted by index, not by name.
    return ("", index) if source.name.startswith("tfds:") else (source.keys[index], index)


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _of_dataset(
    spec: str, rows: list[int], size: int, manual_dir: Path | None
) -> UInt8[np.ndarray, "n size size"]:
    records, _ = open_records(spec, manual_dir)
    features = tuple(records.dataset_info.features)
    if "mask" not in features:
        raise ValueError(f"{spec}: no feature mask; its features are {', '.join(features)}")
    masks = np.empty((len(rows), size, size), np.uint8)
    for place, row in enumerate(rows):
        mask = Image.fromarray(np.asarray(records[row]["mask"])[..., 0])
        masks[place] = np.asarray(mask.resize((size, size), Image.Resampling.BILINEAR))
    return masks
