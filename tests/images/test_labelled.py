"""Labelled images: class folders as torchvision reads them, and datasets with a label."""

import numpy as np
import pytest
from PIL import Image

from posjax.images import open_labelled


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, "PNG")


def test_classes_are_folders_in_the_order_of_their_names(tmp_path):
    for name in ("b/1.png", "b/deep/2.png", "a/3.png", ".hidden/4.png"):
        write(tmp_path / name)
    labelled = open_labelled(str(tmp_path), size=4)
    assert labelled.classes == ("a", "b")
    assert labelled.source.keys == ("a/3.png", "b/1.png", "b/deep/2.png")
    np.testing.assert_array_equal(labelled.labels, [0, 1, 1])


def test_class_folders_without_an_image_are_refused_by_name_and_systems_folders_are_none(tmp_path):
    for name in ("a/1.png", "b/2.png", "__MACOSX/._1.png", "lost+found/x", "a/.DS_Store"):
        write(tmp_path / name)
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"none")
    assert open_labelled(str(tmp_path), size=4).classes == ("a", "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"1 of the 3 class folders have no image: empty"):
        open_labelled(str(tmp_path), size=4)
    (tmp_path / "empty").rmdir()
    assert open_labelled(str(tmp_path), size=4, limit=1).classes == ("a", "b")


def test_a_sample_keeps_its_labels(tmp_path):
    for i in range(20):
        write(tmp_path / ("even" if i % 2 == 0 else "odd") / f"{i:02}.png")
    labelled = open_labelled(str(tmp_path), size=4, limit=9)
    assert len(labelled.source) == 9
    assert [labelled.classes[label] for label in labelled.labels] == [
        key.split("/")[0] for key in labelled.source.keys
    ]


def test_images_in_no_class_single_classes_and_generators_are_refused(tmp_path):
    write(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match="classes are a, expected two"):
        open_labelled(str(tmp_path), size=4)
    write(tmp_path / "loose.png")
    with pytest.raises(ValueError, match=r"1 images lie in no class folder, such as loose\.png"):
        open_labelled(str(tmp_path), size=4)
    for spec in ("noise", "black"):
        with pytest.raises(
            ValueError, match=f"^{spec} is generated, .*expected a folder, or tfds:"
        ):
            open_labelled(spec, size=4)


def test_bad_images_are_left_out_and_a_class_of_nothing_else_is_refused(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        write(tmp_path / name)
    (tmp_path / "a" / "1.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"1 of the files .*\n  a/1\.png: no image"):
        open_labelled(str(tmp_path), size=4)
    labelled = open_labelled(str(tmp_path), size=4, skip_bad_images=True)
    assert labelled.source.keys == ("a/2.png", "b/3.png")
    assert [name for name, _ in labelled.source.skipped] == ["a/1.png"]
    (tmp_path / "b" / "3.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"have no image: b"):
        open_labelled(str(tmp_path), size=4, skip_bad_images=True)


@pytest.mark.usefixtures("data_dir")
def test_a_datasets_labels_are_those_of_its_images():
    labelled = open_labelled("tfds:posjax_levels", size=4, limit=7)
    assert labelled.classes == ("dark", "bright")
    levels = [labelled.source.pixels(i).mean() for i in range(7)]
    np.testing.assert_array_equal(labelled.labels, np.array(levels) >= 100)
    with pytest.raises(ValueError, match=r"1 images have no label, such as .*hidden/0: choose"):
        open_labelled("tfds:posjax_levels:hidden", size=4)
    with pytest.raises(ValueError, match="no feature label of classes; its features are image"):
        open_labelled("tfds:posjax_unlabelled", size=4)
