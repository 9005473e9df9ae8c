"""Pairs: images and masks in two folders belong together by their names."""

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath


def match_masks(
    images: Sequence[str],
    masks: Sequence[str],
    where: str,
    bad_images: Sequence[str] = (),
    bad_masks: Sequence[str] = (),
) -> list[str]:
    """For each image, the mask that has its name but for the ending.

    Where a file of that name was left out, `bad_images` or `bad_masks` has it.

    Raises:
        ValueError: two names that differ in their endings alone, a name without counterpart; the
            message starts with `where`.
    """
    by_stem, masks_by_stem = _by_stem(images), _by_stem(masks)
    if len(by_stem) < len(images) or len(masks_by_stem) < len(masks):
        raise ValueError(f"{where}: two files have the same name but for their ending")
    known = _by_stem(bad_masks) | masks_by_stem
    without_image = masks_by_stem.keys() - by_stem.keys() - _by_stem(bad_images).keys()
    alone = sorted((by_stem.keys() - known.keys()) | without_image)
    if alone:
        raise ValueError(
            f"{where}: {len(alone)} images or masks have no counterpart of their name, such as "
            f"{alone[0]}"
        )
    return [known[stem] for stem in by_stem]


def _by_stem(names: Sequence[str]) -> dict[str, str]:
    # Systems write the same accented letter in different ways.
    plain = (unicodedata.normalize("NFC", name) for name in names)
    stems = (str(PurePosixPath(name).with_suffix("")) for name in plain)
    return dict(zip(stems, names, strict=True))
