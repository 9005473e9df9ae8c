"""Images with masks of their salient objects: two folders with matching names, or a dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from posjax.images.datasets import open_records
from posjax.images.loader import Source, read_bytes
from posjax.images.pairs import match_masks
from posjax.images.sources import open_source
from posjax.images.views import select

HALF = 127
"""Pixels of a mask above it are salient where they are counted."""


class Masked(NamedTuple):
    """Images and their masks: 0 to 255, from the surroundings to what is salient."""

    source: Source
    masks: UInt8[np.ndarray, "n size size"]


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
    source = open_source(images, size=size, manual_dir=manual_dir)
    rows = range(len(source))[part]
    if not rows:
        raise ValueError(
            f"{images} has {len(source)} images, and none of them is in the part that was chosen"
        )
    if images.startswith("tfds:"):
        if masks:
            raise ValueError(f"{images} has masks already: leave those in {masks} out")
        pixels = _of_dataset(images, rows, size, manual_dir)
    elif masks:
        drawn = open_source(masks, size=size)
        matching = match_masks(source.keys, drawn.keys, f"{images} and {masks}")
        rgb = read_bytes(select(drawn, [matching[row] for row in rows]))
        pixels = np.ascontiguousarray(rgb[..., 0])
    else:
        raise ValueError(f"{images} needs masks: a folder of files with the names of its images")
    if pixels.max() <= HALF:
        raise ValueError(
            f"the masks in {masks or images} have no salient pixel: their largest value is "
            f"{pixels.max()}, and 255, white, is salient"
        )
    return Masked(select(source, rows), pixels)


def _of_dataset(
    spec: str, rows: Sequence[int], size: int, manual_dir: Path | None
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
