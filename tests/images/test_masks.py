"""Images and masks: matched by name, split by name, refused where they do not fit together."""

import functools
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posjax.images import open_masked, saliency


def write(folder, levels, ending="png"):
    """Flat pictures, as bright as their names say."""
    folder.mkdir()
    for level in levels:
        Image.new("L", (10, 6), level).save(folder / f"{level:03}.{ending}")
    return str(folder)


@pytest.fixture
def pair(tmp_path):
    return write(tmp_path / "images", (230, 210, 220), "jpg"), write(
        tmp_path / "masks", (220, 210, 230)
    )


def test_masks_belong_to_the_images_of_their_name(pair):
    masked = open_masked(*pair, size=4)
    assert masked.source.keys == ("210.jpg", "220.jpg", "230.jpg")
    assert masked.masks.dtype == np.uint8
    assert masked.masks.shape == (3, 4, 4)
    for index, level in enumerate((210, 220, 230)):
        assert (masked.masks[index] == level).all()
        np.testing.assert_allclose(masked.source[index] * 255, level, atol=1)


def test_a_part_is_taken_in_the_order_of_the_names(pair):
    first, rest = (open_masked(*pair, size=4, part=part) for part in (slice(1), slice(1, None)))
    assert (first.source.keys, rest.source.keys) == (("210.jpg",), ("220.jpg", "230.jpg"))
    assert rest.masks[:, 0, 0].tolist() == [220, 230]
    assert first.source.digest() != rest.source.digest()
    with pytest.raises(ValueError, match=r"has 3 images, and none of them is in the part"):
        open_masked(*pair, size=4, part=slice(3, None))


def test_masks_are_resized_as_images_are(tmp_path):
    rng = np.random.default_rng(0)
    drawn = Image.fromarray(rng.integers(0, 2, (20, 30)).astype(np.uint8) * 255)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        drawn.save(tmp_path / name / "a.png")
    masked = open_masked(str(tmp_path / "images"), str(tmp_path / "masks"), size=7)
    np.testing.assert_allclose(masked.masks[0], masked.source[0][..., 0] * 255, atol=1e-4)


def test_damage_in_the_data_of_an_image_beside_its_pixels_is_named(pair):
    path = Path(pair[0]) / "210.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    damaged = path.with_suffix(".webp")
    with Image.open(path) as image:
        image.save(damaged, exif=exif)
    path.unlink()
    damaged.write_bytes(damaged.read_bytes().replace(b"MM\0*", b"MM\0#"))
    with pytest.raises(ValueError, match=r"210\.webp: truncated or damaged WEBP"):
        open_masked(*pair, size=4)


def test_images_and_masks_that_do_not_fit_together_are_refused(pair, tmp_path):
    images, masks = pair
    with pytest.raises(ValueError, match="needs masks: a folder"):
        open_masked(images, size=4)
    with pytest.raises(ValueError, match="no folder 'nowhere'"):
        open_masked(images, "nowhere", size=4)
    for generated in (("noise", masks), (images, "noise")):
        with pytest.raises(ValueError, match=r"^noise is generated, without labels or masks"):
            open_masked(*generated, size=4)
    (tmp_path / "masks" / "220.png").unlink()
    with pytest.raises(ValueError, match=r"images and .*: 1 images or masks .* such as 220"):
        open_masked(images, masks, size=4)
    (tmp_path / "masks" / "230.png").rename(tmp_path / "masks" / "220.png")
    with pytest.raises(ValueError, match="such as 230"):
        open_masked(images, masks, size=4)
    Image.new("L", (4, 4)).save(tmp_path / "masks" / "210.bmp")
    with pytest.raises(ValueError, match="two files have the same name but for their ending"):
        open_masked(images, masks, size=4)


def test_masks_of_a_dataset_are_those_of_its_images(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    layout = tmp_path / "by hand" / "DUTS-TR"
    layout.mkdir(parents=True)
    write(layout / "DUTS-TR-Image", (140, 180, 220), "jpg")
    write(layout / "DUTS-TR-Mask", (140, 180, 220))
    monkeypatch.setattr(saliency.Duts, "URLS", {"train": saliency.Duts.URLS["train"]})
    open_duts = functools.partial(open_masked, "tfds:duts", size=4, manual_dir=layout.parent)
    masked = open_duts(part=slice(1, None))
    assert len(masked.source) == 2
    for index in range(2):
        level = masked.masks[index, 0, 0]
        np.testing.assert_allclose(masked.source[index] * 255, level, atol=2)
        assert (masked.masks[index] == level).all()
    with pytest.raises(ValueError, match="has masks already: leave those in x out"):
        open_duts("x")


def save(path, image, turned=1):
    path.parent.mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turned
    image.save(path, exif=exif)


def test_masks_without_a_salient_pixel_are_refused(tmp_path):
    images, masks = write(tmp_path / "images", (0,)), write(tmp_path / "masks", (0,))
    with pytest.raises(ValueError, match="no salient pixel: all of them are 0"):
        open_masked(images, masks, size=4)


def test_each_mask_is_read_by_its_own_values_and_how_is_counted(tmp_path):
    square = np.zeros((6, 10), np.uint8)
    square[2:4, 3:6] = 1
    drawn = {
        "binary": Image.fromarray(square),
        "white": Image.fromarray(square * 255),
        "green": Image.fromarray(np.stack([0 * square, 180 * square, 0 * square], -1)),
        "alpha": Image.fromarray(np.dstack([np.full((6, 10, 3), 90, np.uint8), square * 255])),
    }
    for name, mask in drawn.items():
        save(tmp_path / "images" / f"{name}.png", Image.new("RGB", (10, 6)))
        save(tmp_path / "masks" / f"{name}.png", mask)
    masked = open_masked(str(tmp_path / "images"), str(tmp_path / "masks"), size=12)
    for mask in masked.masks[1:]:
        np.testing.assert_array_equal(mask, masked.masks[0])
    assert masked.masks.max() == 255
    assert masked.meanings == {
        "0 and 1": 1,
        "0 and 255": 1,
        "one colour on black": 1,
        "alpha channel": 1,
    }


@pytest.mark.parametrize(
    ("image", "turned", "mask", "mask_turned"),
    [
        ((100, 60), 1, (60, 100), 1),  # rotated
        ((100, 60), 1, (100, 70), 1),  # cropped
        ((60, 100), 6, (60, 100), 1),  # drawn on the stored image
        ((60, 60), 6, (60, 60), 1),  # nothing tells
        ((100, 60), 3, (100, 60), 1),
        ((100, 60), 1, (100, 60), 3),
    ],
)
def test_pairs_that_do_not_show_the_same_view_are_refused_or_left_out(
    image, turned, mask, mask_turned, tmp_path
):
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.jpg", Image.new("RGB", (50, 30)))
        save(tmp_path / "masks" / f"{name}.png", Image.new("L", (50, 30), 255))
    save(tmp_path / "images" / "b.jpg", Image.new("RGB", image), turned)
    save(tmp_path / "masks" / "b.png", Image.new("L", mask, 255), mask_turned)
    folders = str(tmp_path / "images"), str(tmp_path / "masks")
    with pytest.raises(ValueError, match=r"1 of the .*\n  b\.jpg: .* do not show the same view"):
        open_masked(*folders, size=4)
    masked = open_masked(*folders, size=4, skip_bad_images=True)
    assert masked.source.keys == ("a.jpg",)
    assert [name for name, _ in masked.skipped] == ["b.jpg"]


def test_files_that_cannot_be_read_are_left_out_with_their_counterparts(pair, tmp_path):
    (tmp_path / "images" / "210.jpg").write_bytes(b"nothing")
    (tmp_path / "masks" / "220.png").write_bytes(b"nothing")
    for folder in pair:
        (Path(folder) / "readme.txt").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"2 of the files .*\n  210\.jpg: no image"):
        open_masked(*pair, size=4)
    masked = open_masked(*pair, size=4, skip_bad_images=True)
    assert masked.source.keys == ("230.jpg",)
    assert [name for name, _ in masked.skipped] == ["210.jpg", "readme.txt", "220.jpg"]
    assert masked.skipped[-1][1].startswith("220.png: no image")
    (tmp_path / "masks" / "240.png").write_bytes((tmp_path / "masks" / "230.png").read_bytes())
    with pytest.raises(ValueError, match=r"1 images or masks have no counterpart .* such as 240"):
        open_masked(*pair, size=4, skip_bad_images=True)


@pytest.mark.parametrize(
    ("image", "turned", "mask", "mask_turned"),
    [
        ((100, 60), 1, (50, 30), 1),
        ((101, 67), 1, (50, 33), 1),  # rounded
        ((100, 60), 6, (60, 100), 1),  # drawn on the image as it is shown
        ((100, 60), 6, (100, 60), 6),
    ],
)
def test_pairs_that_show_the_same_view_are_taken(image, turned, mask, mask_turned, tmp_path):
    save(tmp_path / "images" / "a.jpg", Image.new("RGB", image), turned)
    save(tmp_path / "masks" / "a.png", Image.new("L", mask, 255), mask_turned)
    masked = open_masked(str(tmp_path / "images"), str(tmp_path / "masks"), size=4)
    assert (masked.masks == 255).all()


def test_names_in_other_unicode_forms_belong_together(tmp_path):
    save(tmp_path / "images" / unicodedata.normalize("NFC", "é.png"), Image.new("L", (4, 4)))
    save(tmp_path / "masks" / unicodedata.normalize("NFD", "é.png"), Image.new("L", (4, 4), 255))
    assert len(open_masked(str(tmp_path / "images"), str(tmp_path / "masks"), size=4).source) == 1
