"""DUTS and PASCAL-S, from small archives of the same layout, without TensorFlow."""

import functools
import http.server
import io
import sys
import threading
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from posjax.images import open_source, saliency

TRAIN = [("DUTS-TR/DUTS-TR-Image", "jpg", "RGB"), ("DUTS-TR/DUTS-TR-Mask", "png", "L")]
TEST = [("DUTS-TE/DUTS-TE-Image", "jpg", "RGB"), ("DUTS-TE/DUTS-TE-Mask", "png", "RGB")]
PASCAL = [("datasets/imgs/pascal", "jpg", "RGB"), ("datasets/masks/pascal", "png", "L")]

SYSTEMS = {
    f"{before}{folder}/{name}": b"no image"
    for before in ("", "__MACOSX/")
    for folder, _, _ in TRAIN
    for name in ("._20.jpg", ".DS_Store", "Thumbs.db", "desktop.ini")
}


def picture(ending, mode, level):
    buffer = io.BytesIO()
    colour = level if mode == "L" else (level,) * 3
    Image.new(mode, (12, 9), colour).save(buffer, {"jpg": "JPEG", "png": "PNG"}[ending])
    return buffer.getvalue()


def contents(layout, names):
    """Files by their path: images as bright as their name says, masks ten levels brighter."""
    return {
        f"{folder}/{name}.{ending}": picture(ending, mode, int(name) + 10 * (i % 2))
        for i, (folder, ending, mode) in enumerate(layout)
        for name in names
    }


def archive(path, files):
    with zipfile.ZipFile(path, "w") as written:
        for name, content in files.items():
            written.writestr(name, content)


@pytest.fixture
def manual(tmp_path, monkeypatch):
    """A folder for archives; datasets are prepared in `tfds` beside it."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    folder = tmp_path / "by hand"
    folder.mkdir()
    return folder


def levels(spec, manual_dir=None):
    source = open_source(spec, size=4, manual_dir=manual_dir)
    return sorted(round(float(source[i].mean()) * 255) for i in range(len(source)))


def test_archives_downloaded_by_hand_are_read_without_tensorflow(tmp_path, manual):
    archive(manual / "DUTS-TR.zip", contents(TRAIN, ["20", "40", "60"]) | SYSTEMS)
    archive(manual / "DUTS-TE.zip", contents(TEST, ["100", "120"]))
    assert levels("tfds:duts", manual) == [20, 40, 60]
    assert levels("tfds:duts:test") == [100, 120]  # prepared before
    assert not {"tensorflow"} & sys.modules.keys()
    records = tfds.data_source("duts", split="test", data_dir=tmp_path / "tfds")
    for record in records:
        assert record["mask"].shape == (9, 12, 1)
        assert np.all(record["mask"] == int(record["name"]) + 10)


@pytest.mark.usefixtures("manual")
def test_the_default_manual_folder_is_that_of_tfds(tmp_path):
    folder = tmp_path / "tfds" / "downloads" / "manual"
    folder.mkdir(parents=True)
    archive(folder / "salObj.zip", contents(PASCAL, ["1", "2", "3", "4"]) | {"readme.txt": b"!"})
    assert levels("tfds:pascal_s:test") == [1, 2, 3, 4]


def test_unpacked_archives_are_read_too(manual):
    for name, content in contents(PASCAL, ["7", "8"]).items():
        (manual / name).parent.mkdir(parents=True, exist_ok=True)
        (manual / name).write_bytes(content)
    (manual / "datasets/imgs/pascal/.DS_Store").write_bytes(b"")
    assert levels("tfds:pascal_s:test", manual) == [7, 8]


@pytest.mark.usefixtures("manual")
def test_missing_archives_are_downloaded(tmp_path, monkeypatch):
    archive(tmp_path / "salObj.zip", contents(PASCAL, ["30"]))
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/salObj.zip"
        monkeypatch.setattr(saliency.PascalS, "URLS", {"test": url})
        assert levels("tfds:pascal_s:test") == [30]
        server.shutdown()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (contents(PASCAL, ["1"]) | contents(PASCAL[:1], ["2"]), r"1 images or masks.*such as 2"),
        (contents(PASCAL[:1], ["1"]), r"no folder datasets/masks/pascal"),
        (
            contents(PASCAL, ["1"]) | {"datasets/masks/pascal/1.png": b"nothing"},
            r"mask 1.png: no image",
        ),
    ],
)
def test_archives_of_another_layout_are_refused_by_name(manual, files, message):
    archive(manual / "salObj.zip", files)
    with pytest.raises(ValueError, match=r"(?s)tfds:pascal_s:test: .*salObj\.zip.*" + message):
        levels("tfds:pascal_s:test", manual)


def test_an_archive_that_was_cut_off_is_refused_and_can_be_replaced(manual):
    path = manual / "salObj.zip"
    archive(path, contents(PASCAL, ["1", "2"]))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"salObj\.zip is no zip archive, or is cut off"):
        levels("tfds:pascal_s:test", manual)
    path.write_bytes(whole)
    assert levels("tfds:pascal_s:test", manual) == [1, 2]
