"""Images and masks: matched by name, split by name, refused where they do not fit together."""

import functools

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


def test_images_and_masks_that_do_not_fit_together_are_refused(pair, tmp_path):
    images, masks = pair
    with pytest.raises(ValueError, match="needs masks: a folder"):
        open_masked(images, size=4)
    with pytest.raises(ValueError, match="no folder 'nowhere'"):
        open_masked(images, "nowhere", size=4)
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


def test_masks_without_a_salient_pixel_are_refused(tmp_path):
    images, masks = (write(tmp_path / name, (10, 127)) for name in ("images", "masks"))
    with pytest.raises(ValueError, match="largest value is 127, and 255, white, is salient"):
        open_masked(images, masks, size=4)
