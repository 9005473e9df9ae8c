"""Pairs: images and masks in two folders belong together by their names."""

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath


def match_masks(images: Sequence[str], masks: Sequence[str], where: str) -> list[int]:
    """For each image, which mask has its name but for the ending.

    Raises:
        ValueError: two names that differ in their endings alone, a name without counterpart; the
            message starts with `where`.
    """
    image_rows, mask_rows = _rows_by_stem(images), _rows_by_stem(masks)
    if len(image_rows) < len(images) or len(mask_rows) < len(masks):
        raise ValueError(f"{where}: two files have the same name but for their ending")
    alone = sorted(image_rows.keys() ^ mask_rows.keys())
    if alone:
        raise ValueError(
            f"{where}: {len(alone)} images or masks have no counterpart of their name, such as "
            f"{alone[0]}"
        )
    return [mask_rows[stem] for stem in image_rows]


def _rows_by_stem(names: Sequence[str]) -> dict[str, int]:
    # Systems write the same accented letter in different ways.
    plain = (unicodedata.normalize("NFC", name) for name in names)
    return {str(PurePosixPath(name).with_suffix("")): row for row, name in enumerate(plain)}
