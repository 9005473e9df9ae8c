"""Loading: the bytes of an image file become a square image, images become batches."""

import contextlib
import functools
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, SupportsIndex, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
THREADS = 8

# Part of every digest: raise it when a change gives other pixels for the same bytes.
RECIPE = "rgb8, upright, bilinear, float32 / 255; 2"


@runtime_checkable
class Source(Protocol):
    """A finite sequence of square images, each the same at every reading and in every thread.

    An index out of range raises IndexError; a broken image raises ValueError with the file's name.
    """

    @property
    def name(self) -> str:
        """The spec as given."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """One name per image."""
        ...

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """One (path, reason) per file that was left out."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: SupportsIndex) -> Float[np.ndarray, "size size 3"]:
        """One image: float32 RGB in [0, 1]; what encoders see of it is rounded to 8 bits."""
        ...

    def digest(self) -> str:
        """SHA-256 in hexadecimal over everything that determines the pixels."""
        ...


class EightBit:
    """Part of a source that holds 8 bits a value: `pixels` gives them, an index the same as floats.

    Sources need not have it: `read_pixels` rounds the floats of those that have not.
    """

    def pixels(self, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
        """One image: RGB on 0 … 255. Raises as the index does."""
        raise NotImplementedError

    def __getitem__(self, index: SupportsIndex) -> Float[np.ndarray, "size size 3"]:
        return self.pixels(index).astype(np.float32) / np.float32(255)


def read_pixels(source: Source, index: SupportsIndex) -> UInt8[np.ndarray, "size size 3"]:
    """One image of a source, 255 times its values, rounded.

    Raises:
        IndexError: there is no such image.
        ValueError: it cannot be read, or holds values outside of [0, 1]; names it.
    """
    if isinstance(source, EightBit):
        return source.pixels(index)
    return to_bytes(source[index], source.keys[index])


def to_bytes(image: Float[np.ndarray, "h w 3"], name: str) -> UInt8[np.ndarray, "h w 3"]:
    """255 times the values of an image, rounded.

    Raises:
        ValueError: values outside of [0, 1]; the message starts with `name`.
    """
    lowest, highest = image.min(), image.max()
    if not (lowest >= 0 and highest <= 1):
        raise ValueError(f"{name}: expected values in [0, 1], not {lowest} to {highest}")
    return np.rint(image * 255).astype(np.uint8)


def batches(source: Source, batch_size: int) -> Iterator[UInt8[np.ndarray, "n size size 3"]]:
    """Stacks the images of a source, in order, into batches of `batch_size` with 8 bits a value.

    The last batch may be smaller. `THREADS` threads read ahead, by one batch or by two images
    each, whichever is more. What a reading thread raises is raised here.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size starts at 1, got {batch_size}")
    with _quiet_imports():
        import grain  # It takes a while, for which a program's help need not wait.

    options = grain.ReadOptions(
        num_threads=THREADS, prefetch_buffer_size=max(batch_size, 2 * THREADS)
    )
    read = functools.partial(read_pixels, source)
    images = grain.MapDataset.range(len(source)).map(read).to_iter_dataset(options)
    return iter(images.batch(batch_size, drop_remainder=False))


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Without the warnings of packages that are imported, such as Grain's of an older JAX."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def read_bytes(source: Source) -> UInt8[np.ndarray, "n size size 3"]:
    """All images of a source, with 8 bits a value.

    Raises:
        ValueError: an image cannot be read; names it.
    """
    pixels = np.empty((len(source), *source[0].shape), np.uint8)
    row = 0
    for images in batches(source, 256):
        pixels[row : row + len(images)] = images
        row += len(images)
    return pixels


def load(data: bytes, name: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Decodes an image file's bytes to 8-bit RGB, resized to size × size pixels.

    Pillow's BILINEAR averages over the whole footprint when it shrinks and rounds to 8 bits.
    Divided by 255, that is the released PyTorch code's `Resize((size, size))` and `ToTensor()`.
    Raises as `decode`.
    """
    return np.asarray(decode(data, name).resize((size, size), Image.Resampling.BILINEAR))


def decode(data: bytes, name: str) -> Image.Image:
    """Decodes the first frame of an image file's bytes to an 8-bit RGB image that stands upright.

    Its EXIF orientation is applied, which the released PyTorch code does not.

    Raises:
        ValueError: the bytes are no image in one of `FORMATS`, too large for Pillow's
            `Image.MAX_IMAGE_PIXELS`, or broken; the message starts with `name`.
    """
    with decoding(io.BytesIO(data), name) as image:
        image.load()
        return to_rgb(upright(image))


@contextlib.contextmanager
def decoding(file: io.BufferedReader | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """Opens an image. What Pillow raises in the block is told as damage. Raises as `decode`."""
    with open_image(file, name) as image:
        try:
            yield image
        # Pillow's decoders raise OSError, SyntaxError, EOFError, struct.error and more.
        except Exception as error:
            raise ValueError(f"{name}: truncated or damaged {image.format}: {error}") from error


# How an image is turned upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none."""
    turned = image.getexif().get(0x0112, 1)
    return turned if turned in _TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """The image, turned as its EXIF orientation says."""
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def check_header(path: Path, name: str) -> None:
    """Reads the first bytes of a file. Raises as `decode`, save for damage behind the header."""
    if not path.is_file():
        raise ValueError(f"{name}: neither a file nor a link to one")
    with path.open("rb") as file, open_image(file, name):
        pass


def open_image(file: io.BufferedReader | io.BytesIO, name: str) -> Image.Image:
    """Opens an image and reads its header. Raises as `decode`, save for damage behind it."""
    start = file.read(12)
    file.seek(0)
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name}: too large: {error}") from error
    except Exception as error:
        raise ValueError(
            f"{name}: no image, or cut in its header: begins with {start!r}, expected one of "
            f"{', '.join(FORMATS)}"
        ) from error
    most, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
    # Up to twice the limit Pillow only warns.
    if most is not None and pixels > most:
        image.close()
        raise ValueError(f"{name}: too large: {pixels} pixels, Pillow's limit is {most}")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any of Pillow's modes to 8-bit RGB.

    Alpha is dropped, not blended: what is stored under a transparent pixel shows. CMYK gives
    (255 − C)(255 − K) / 255 and so on, without a colour profile. I;16, I and F are grey levels on
    0 … 65535: divided by 257, rounded and clipped, where Pillow alone would clip all at 255.
    """
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.rint(np.asarray(image, dtype=np.float32) / np.float32(257))
        image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    # Pillow would warn that it drops a palette's alpha, which is what the docstring promises.
    image.info.pop("transparency", None)
    return image.convert("RGB")
