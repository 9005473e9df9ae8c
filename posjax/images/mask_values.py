"""What the values of a mask mean: settled for each mask by its values, or refused."""

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from posjax.images.loader import decoding, orientation, upright

HALF = 127
"""Pixels of a mask above it are salient where they are counted."""


class Mask(NamedTuple):
    """A mask as it stands upright: 0 to 255, from the surroundings to what is salient.

    `meaning` says how its values were read. `turned` is its EXIF orientation, 1 to 8.
    """

    levels: UInt8[np.ndarray, "h w"]
    meaning: str
    turned: int


def read_mask(data: bytes, name: str) -> Mask:
    """Decodes the bytes of a mask's file and settles what its values mean, see `settle`.

    Raises:
        ValueError: as `mask_pixels` and `settle`.
    """
    pixels, turned = mask_pixels(data, name)
    return Mask(*settle(pixels, name), turned)


def mask_pixels(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """The values of a mask's file, as it stands upright, and its EXIF orientation.

    They are grey levels [h, w], or colours [h, w, channels]: grey and alpha, RGB, RGB and alpha.

    Raises:
        ValueError: as `posjax.images.loader.decode`; the message starts with `name`.
    """
    with decoding(io.BytesIO(data), name) as image:
        image.load()
        return _pixels(upright(image)), orientation(image)


def settle(pixels: np.ndarray, name: str) -> tuple[UInt8[np.ndarray, "h w"], str]:
    """The levels of a mask, 0 to 255, and how its values were read.

    Grey levels are 0 and 1; or 0 to 255; or 0 to 65535 where a value is above 255. The brightest
    must be in the upper half of its range. A mask of two colours is salient where it is not black.
    An alpha channel is the mask where the colour is the same all over. A mask of zeros is empty.

    Args:
        pixels: integers [h, w] or [h, w, channels], of 1 to 4 channels: grey, grey and alpha, RGB,
            RGB and alpha.
        name: of the mask, for errors.

    Raises:
        ValueError: the values may mean several things; the message starts with `name`.
    """
    pixels = np.atleast_3d(pixels)
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    if pixels.shape[-1] in (2, 4):
        return _with_alpha(pixels[..., :-1], pixels[..., -1], name)
    if (pixels == pixels[..., :1]).all():
        return _grey(pixels[..., 0], name)
    painted = pixels.any(axis=-1)
    colour = pixels.reshape(-1, pixels.shape[-1])[np.argmax(painted)]
    if not painted.all() and ((pixels == colour).all(axis=-1) == painted).all():
        return np.where(painted, np.uint8(255), np.uint8(0)), "one colour on black"
    raise ValueError(f"{name}: a mask of several colours; expected grey levels, or black and one")


def _grey(grey: np.ndarray, name: str) -> tuple[UInt8[np.ndarray, "h w"], str]:
    lowest, highest = int(grey.min()), int(grey.max())
    if lowest < 0:
        raise ValueError(f"{name}: a mask with negative values, down to {lowest}")
    if highest <= 1:
        return grey.astype(np.uint8) * np.uint8(255), "0 and 1" if highest else "empty"
    most = 255 if highest <= 255 else 65535
    if highest > most or highest <= most // 2:
        raise ValueError(
            f"{name}: a mask with values up to {highest}; expected 0 and 1, or up to {most}"
        )
    values = np.unique(grey).tolist()
    if values == [0, 1, 255]:
        raise ValueError(f"{name}: a mask of the values 0, 1 and 255: 1 or 255 may be salient")
    meaning = f"0 and {most}" if set(values) <= {0, most} else f"grey levels up to {most}"
    # 257 is 65535 / 255.
    levels = grey if most == 255 else (grey.astype(np.uint32) + 128) // 257
    return levels.astype(np.uint8), meaning


def _with_alpha(
    colour: np.ndarray, alpha: np.ndarray, name: str
) -> tuple[UInt8[np.ndarray, "h w"], str]:
    if alpha.min() == alpha.max() > 0:
        return settle(colour, name)
    if (colour == colour[:1, :1]).all() and alpha.max() > 0:
        return _grey(alpha, name)[0], "alpha channel"
    opaque = _grey(alpha, name)[0] > HALF
    levels, meaning = settle(colour, name)
    if ((levels > HALF) != opaque).any():
        raise ValueError(f"{name}: the colours of the mask and its alpha channel differ")
    return levels, meaning


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "PA") or "transparency" in image.info:
        has_alpha = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "LA", "RGB", "RGBA") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    is_grey = image.mode == "RGB" and (pixels == pixels[..., :1]).all()
    return pixels[..., 0] if is_grey else pixels
