"""Loading: every format and mode to RGB, the resize, damage, batches read ahead by threads."""

import io
import re
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from posjax.images import Rolled, batches, open_source, read_bytes, read_pixels, select
from posjax.images.loader import check_header, decode, load, to_rgb


def _pixels(height: int = 12, width: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _bytes(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_keep_every_level(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = _bytes(Image.fromarray(_pixels()), kind, **options)
    np.testing.assert_array_equal(np.asarray(decode(data, "a")), _pixels())


def test_jpeg_keeps_flat_colours():
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    levels = np.asarray(decode(_bytes(Image.fromarray(flat), "JPEG", quality=95), "a")).astype(int)
    assert np.abs(levels - flat).max() <= 3


def test_grey_and_bilevel_fill_three_channels():
    grey = _pixels()[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode(_bytes(Image.fromarray(grey)), "a"), expected)
    bits = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(decode(_bytes(bits), "a"), np.where(expected > 127, 255, 0))


def test_alpha_is_dropped_not_blended():
    pixels = _pixels()
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    rgba = Image.fromarray(np.dstack([pixels, alpha]))
    np.testing.assert_array_equal(decode(_bytes(rgba), "a"), pixels)
    grey = Image.merge("LA", [Image.fromarray(pixels[..., 0]), Image.fromarray(alpha)])
    np.testing.assert_array_equal(np.asarray(decode(_bytes(grey), "a"))[..., 1], pixels[..., 0])


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_palette_becomes_its_colours_whatever_is_transparent(transparency):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    decoded = np.asarray(decode(_bytes(image, **options), "a"))
    np.testing.assert_array_equal(decoded[0], [[255, 0, 0], [0, 255, 0], [1, 2, 3]])


def test_cmyk_jpeg_becomes_rgb():
    ink = np.zeros((16, 16, 4), np.uint8) + np.array([255, 0, 0, 51], np.uint8)
    data = _bytes(Image.frombytes("CMYK", (16, 16), ink.tobytes()), "JPEG", quality=100)
    levels = np.asarray(decode(data, "a")).astype(int)
    assert np.abs(levels - [0, 204, 204]).max() <= 4


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_sixteen_bits_are_scaled_not_clipped(mode):
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    image = Image.fromarray(np.array([[0, 128, 257, 51400, 65535]], kind))
    assert image.mode == mode
    levels = [0, 0, 1, 200, 255]
    np.testing.assert_array_equal(np.asarray(to_rgb(image))[0, :, 2], levels)
    if mode == "I;16":
        np.testing.assert_array_equal(np.asarray(decode(_bytes(image), "a"))[0, :, 0], levels)


def test_animation_gives_its_first_frame():
    frames = [Image.fromarray(_pixels(seed=seed)) for seed in (0, 1)]
    data = _bytes(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data, "a"), _pixels(seed=0))


@pytest.mark.parametrize("turned", range(1, 9))
def test_an_image_stands_upright_as_pillow_turns_it(turned):
    tag = Image.Exif()
    tag[0x0112] = turned
    data = _bytes(Image.fromarray(_pixels(12, 10)), exif=tag)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, "a"), expected)


def _triangle(length: int, size: int) -> np.ndarray:
    """Rows of an antialiased bilinear resize: a triangle as wide as the reduction needs."""
    scale = length / size
    centres = (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_resize_is_an_antialiased_triangle(height, width, size):
    pixels = _pixels(height, width)
    loaded = load(_bytes(Image.fromarray(pixels)), "a", size)
    rows, columns = _triangle(height, size), _triangle(width, size)
    expected = np.einsum("ih,hwc,jw->ijc", rows, pixels.astype(np.float64), columns)
    assert loaded.shape == (size, size, 3)
    assert loaded.dtype == np.uint8
    # Pillow rounds to 8 bits after each of the two passes.
    np.testing.assert_allclose(loaded, expected, atol=1.1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_bytes_are_refused_by_name(kind):
    data = _bytes(Image.fromarray(_pixels(64, 64)), kind)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    for kept in (0.3, 0.9):
        with pytest.raises(ValueError, match=r"^cats/1\.img: "):
            decode(data[: int(len(data) * kept)], "cats/1.img")


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a" + bytes(40), b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused_with_its_first_bytes(data):
    first = re.escape(repr(data[:12]))
    message = rf"^a\.png: no image, .*begins with {first}, expected one of JPEG, PNG, WEBP, BMP"
    with pytest.raises(ValueError, match=message):
        decode(data, "a.png")


@pytest.mark.parametrize("times", [1.5, 3])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_too_many_pixels_are_refused_from_the_header(tmp_path, monkeypatch, times, action):
    path = tmp_path / "large.png"
    path.write_bytes(_bytes(Image.new("RGB", (30, 20))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(600 / times))
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ValueError, match=r"^large\.png: too large: .*600"):
            check_header(path, "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    check_header(path, "large.png")


class _Levels:
    """Image i is flat, of level i of 255, or of the values that are given for it."""

    name, skipped = "levels", ()

    def __init__(self, length: int, values: dict | None = None):
        self.keys = tuple(map(str, range(length)))
        self.values, self.threads = values or {}, set()

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        position = range(len(self))[index]
        self.threads.add(threading.get_ident())
        time.sleep(0.001 * (position % 3))
        image = np.empty((2, 2, 3), np.float32)
        image[:] = np.reshape(self.values.get(position, position / 255), (-1, 1))[:, None]
        return image

    def digest(self):
        return ""


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_batches_keep_the_order_and_the_ragged_end(batch_size):
    source = _Levels(11)
    read = list(batches(source, batch_size))
    assert [len(batch) for batch in read][:-1] == [batch_size] * ((11 - 1) // batch_size)
    joined = np.concatenate(read)
    assert joined.dtype == np.uint8
    np.testing.assert_array_equal(joined[:, 0, 0, 0], np.arange(11))
    # They read at the same time, and not in the thread that asks for batches.
    assert len(source.threads) > 1
    assert threading.get_ident() not in source.threads


def test_an_error_in_a_thread_arrives_after_the_batches_before_it():
    read = batches(_Levels(11, {9: 1.01}), 4)
    assert len(next(read)) == len(next(read)) == 4
    with pytest.raises(ValueError, match=r"^9: expected values in \[0, 1\]"):
        next(read)


@pytest.mark.parametrize("value", [-0.01, 1.01, np.inf, np.nan])
def test_values_outside_of_0_to_1_are_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^1: expected values in \[0, 1\]"):
        read_pixels(_Levels(2, {1: [0.5, value]}), 1)


def test_floats_are_rounded_to_the_nearest_of_255_levels():
    values = {0: [0.4 / 255, 0.6 / 255], 1: [100.49 / 255, 100.51 / 255], 2: [254.4 / 255, 1]}
    pixels = read_bytes(_Levels(3, values))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[:, :, 0, 1], [[0, 1], [100, 101], [254, 255]])


def test_floats_are_the_same_levels_over_255():
    plain = open_source("noise", size=8, limit=2)
    for source in (plain, select(plain, [1, 0]), Rolled(plain, 0)):
        for index, pixels in enumerate(read_bytes(source)):
            expected = pixels.astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(source[index], expected, strict=True)


def test_batches_of_nothing_are_refused_at_once():
    with pytest.raises(ValueError, match="batch_size starts at 1"):
        batches(_Levels(3), 0)
