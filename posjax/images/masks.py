"""Images with masks of their salient objects: two folders with matching names, or a dataset."""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from posjax.images.datasets import open_records
from posjax.images.folders import usable
from posjax.images.loader import Source, decoding, orientation
from posjax.images.mask_values import Mask, read_mask, settle
from posjax.images.pairs import match_masks
from posjax.images.sources import check_stored, open_source
from posjax.images.views import select


class Masked(NamedTuple):
    """Images and their masks: 0 to 255, from the surroundings to what is salient.

    `meanings` counts how the values of the masks were read, see `mask_values.settle`. `skipped` has
    (name, reason) for each image that was left out.
    """

    source: Source
    masks: UInt8[np.ndarray, "n size size"]
    meanings: Mapping[str, int]
    skipped: tuple[tuple[str, str], ...]


def open_masked(
    images: str,
    masks: str | None = None,
    *,
    size: int,
    part: slice = slice(None),
    skip_bad_images: bool = False,
    manual_dir: Path | None = None,
) -> Masked:
    """Opens a folder of images and one of masks, or `tfds:NAME[:SPLIT]` with a feature `mask`.

    A mask has the name of its image, and may have another ending. `part` of the images is taken,
    in the order of their names; all masks are resized as the images are, and read at once. What
    the values of a mask mean is settled for each mask. An image and its mask must agree in their
    proportions, to the rounding of a pixel, and in how they are turned.

    Args:
        images: the folder, or the dataset.
        masks: the folder of the masks of a folder of images.
        size: height and width in pixels.
        part: which of the images, by the order of their names.
        skip_bad_images: leave out and list images that cannot be read, masks whose values may mean
            several things, and pairs that do not agree, in place of refusing them.
        manual_dir: as `open_source`.

    Raises:
        ValueError: as `open_source`; an image without a mask, or the other way round; masks where
            the dataset has some already; a dataset without them; masks that cannot be settled or
            do not agree with their image (the first ten are listed); masks without a salient pixel;
            a part that holds no image.
    """
    check_stored(images)
    source = open_source(images, size=size, skip_bad_images=skip_bad_images, manual_dir=manual_dir)
    rows = range(len(source))[part]
    if not rows:
        raise ValueError(
            f"{images} has {len(source)} images, and none of them is in the part that was chosen"
        )
    if images.startswith("tfds:"):
        if masks:
            raise ValueError(f"{images} has masks already: leave those in {masks} out")
        read = _of_dataset(images, source.keys, manual_dir)
    elif masks:
        read = _of_folders(Path(images).expanduser(), source, masks, skip_bad_images)
    else:
        raise ValueError(f"{images} needs masks: a folder of files with the names of its images")
    return _read_all(source, rows, read, size, masks or images, skip_bad_images)


class _Pair(NamedTuple):
    """The stored size (width, height) of an image, its EXIF orientation, and its mask."""

    size: tuple[int, int]
    turned: int
    mask: Mask


def _read_all(
    source: Source,
    rows: Sequence[int],
    read: Callable[[int], _Pair],
    size: int,
    where: str,
    skip: bool,
) -> Masked:
    numbers = {source.keys[row]: row for row in rows}

    def resized(name: str) -> tuple[UInt8[np.ndarray, "size size"], str]:
        """The mask of an image and its meaning."""
        pair = read(numbers[name])
        if problem := _disagreement(pair):
            raise ValueError(problem)
        mask = Image.fromarray(pair.mask.levels).resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(mask), pair.mask.meaning

    what = "images and masks cannot be used"
    good, bad = usable(list(numbers), resized, where, what, skip=skip)
    pixels = np.stack([mask for mask, _ in good.values()])
    if not pixels.any():
        raise ValueError(f"the masks in {where} have no salient pixel: all of them are 0")
    chosen = select(source, [numbers[name] for name in good])
    return Masked(chosen, pixels, Counter(text for _, text in good.values()), source.skipped + bad)


def _of_folders(
    root: Path, source: Source, masks: str, skip_bad_images: bool
) -> Callable[[int], _Pair]:
    check_stored(masks)
    drawn = open_source(masks, size=1, skip_bad_images=skip_bad_images)
    bad = [[name for name, _ in each.skipped] for each in (source, drawn)]
    matching = match_masks(source.keys, drawn.keys, f"{root} and {masks}", *bad)

    def read(row: int) -> _Pair:
        path = root / source.keys[row]
        with path.open("rb") as file, decoding(file, str(path)) as image:
            size, turned = image.size, orientation(image)
        name = matching[row]
        return _Pair(size, turned, read_mask((Path(masks).expanduser() / name).read_bytes(), name))

    return read


def _of_dataset(spec: str, keys: Sequence[str], manual_dir: Path | None) -> Callable[[int], _Pair]:
    records = open_records(spec, manual_dir)
    if "mask" not in records.features:
        raise ValueError(f"{spec}: no feature mask; its features are {', '.join(records.features)}")

    def read(row: int) -> _Pair:
        record = records[keys[row]]
        with decoding(io.BytesIO(record["image"]), keys[row]) as image:
            size, turned = image.size, orientation(image)
        return _Pair(size, turned, Mask(*settle(record["mask"], keys[row]), turned=1))

    return read


def _disagreement(pair: _Pair) -> str:
    """How an image and its mask disagree, or an empty text."""
    image, mask = pair.size, pair.mask.levels.shape[::-1]
    if pair.turned == pair.mask.turned:
        agree = _same_proportions(_upright(image, pair.turned), mask)
    else:
        # Proportions tell a quarter turn, where the image is no square.
        stored = _upright(mask, pair.mask.turned)
        agree = _same_proportions(_upright(image, pair.turned), mask) and not _same_proportions(
            image, stored
        )
    if agree:
        return ""
    turns = f", EXIF orientations {pair.turned} and {pair.mask.turned}"
    return (
        f"the image of {image[0]}x{image[1]} and its mask of {mask[0]}x{mask[1]} do not show the "
        f"same view{turns if (pair.turned, pair.mask.turned) != (1, 1) else ''}"
    )


def _upright(size: tuple[int, ...], turned: int) -> tuple[int, ...]:
    return size[::-1] if turned >= 5 else size


def _same_proportions(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one size is the other times a factor, to the rounding of a pixel."""
    (width, height), (width2, height2) = one, other
    return abs(width * height2 - width2 * height) <= max(width, height, width2, height2)
