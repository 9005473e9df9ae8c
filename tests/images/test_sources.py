"""Sources: specs, limits, seeds, folders with all that lies in them, digests."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from posjax.images import Source, batches, open_source
from posjax.images.loader import load


def _write(path, seed=0, size=(12, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    names = ["b/z.bmp", "b/a.jpg", "a.png", "c/d/e.webp", "B.png", *SYSTEMS]
    for seed, name in enumerate(names[:5]):
        _write(tmp_path / "photos" / name, seed)
    for name in names[5:]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no image")
    return tmp_path / "photos"


NAMES = ("B.png", "a.png", "b/a.jpg", "b/z.bmp", "c/d/e.webp")
SYSTEMS = (
    *("b/.hidden.txt", ".git/x.txt", "b/._a.jpg", ".DS_Store", "c/Thumbs.db", "c/desktop.ini"),
    *("__MACOSX/b/._a.jpg", "lost+found/1.jpg", "$RECYCLE.BIN/1.jpg", "b/@eaDir/a.jpg"),
)


def test_a_folder_is_read_recursively_in_the_order_of_its_paths(folder):
    source = open_source(str(folder), size=8)
    assert isinstance(source, Source)
    assert source.keys == NAMES
    assert source.name == str(folder)
    assert source.skipped == ()
    assert open_source(str(folder), size=8, skip_bad_images=True).skipped == ()
    for index, name in enumerate(NAMES):
        expected = load((folder / name).read_bytes(), name, 8)
        np.testing.assert_array_equal(source[index], expected.astype(np.float32) / np.float32(255))
    assert (source[-1] == source[4]).all()
    with pytest.raises(IndexError):
        source[5]


def test_black_and_white_are_one_image_whatever_the_limit():
    for spec, level in (("black", 0), ("white", 1)):
        for limit in (None, 7):
            source = open_source(spec, size=4, limit=limit)
            assert isinstance(source, Source)
            assert source.keys == (spec,)
            expected = np.full((4, 4, 3), level, np.float32)
            np.testing.assert_array_equal(source[0], expected, strict=True)


def test_noise_is_uniform_and_independent():
    image = open_source("noise", size=128, limit=1)[0]
    counts, _ = np.histogram(image, bins=10, range=(0, 1))
    np.testing.assert_allclose(counts / image.size, 0.1, atol=0.006)
    flat = image.reshape(-1, 3)
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(flat[1:, 0], flat[:-1, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("spec", ["dead_leaves", "noise"])
def test_endless_sources_grow_and_other_seeds_share_nothing(spec):
    with pytest.raises(ValueError, match="limit"):
        open_source(spec, size=8)
    few, many = (open_source(spec, size=8, limit=limit, seed=3) for limit in (2, 5))
    assert many.keys == tuple(f"{spec}/{index}" for index in range(5))
    for index in range(2):
        np.testing.assert_array_equal(few[index], many[index])
    images = [
        image.tobytes()
        for seed in (0, 1, 2**32)
        for image in open_source(spec, size=8, limit=5, seed=seed)
    ]
    assert len(set(images)) == 15


def test_a_limit_takes_a_seeded_sample_in_order(tmp_path):
    for index in range(40):
        _write(tmp_path / f"{index // 20}" / f"{index:02}.png", index, (2, 2))
    samples = [open_source(str(tmp_path), size=2, limit=10, seed=seed).keys for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    for keys in samples:
        assert len(set(keys)) == 10
        assert list(keys) == sorted(keys)
        assert {key[0] for key in keys} == {"0", "1"}
    assert len(open_source(str(tmp_path), size=2, limit=40)) == 40
    with pytest.raises(ValueError, match=r"40 images, fewer than 41"):
        open_source(str(tmp_path), size=2, limit=41)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("black", {"size": 0}, "size starts at 1, got 0"),
        ("noise", {"size": 4, "limit": 0}, "limit starts at 1"),
        ("noise", {"size": 4, "limit": 1, "seed": -1}, "seed starts at 0"),
        ("dead_leavs", {"size": 4}, "no folder 'dead_leavs'.*dead_leaves.*tfds:NAME"),
        ("", {"size": 4}, "no folder ''"),
    ],
)
def test_wrong_specs_and_numbers_are_refused(spec, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(spec, **options)


def test_an_empty_folder_and_a_file_are_refused(tmp_path):
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(ValueError, match="without files"):
        open_source(str(tmp_path / "empty"), size=4)
    path = _write(tmp_path / "a.png")
    with pytest.raises(ValueError, match="is a file"):
        open_source(str(path), size=4)


def test_files_that_are_no_images_are_listed_and_those_behind_the_tenth_counted(folder):
    (folder / "b/readme.txt").write_text("hello, reader")
    (folder / "b/empty.jpg").touch()
    (folder / "b/gone.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "b/pipe.png")
    for index in range(9):
        (folder / f"c/d/{index}.png").write_bytes(b"GIF89a" + bytes(30))
    with pytest.raises(ValueError, match=r"13 of the files") as error:
        open_source(str(folder), size=4)
    message = str(error.value)
    assert "b/readme.txt: no image, or cut in its header: begins with b'hello, reade'" in message
    assert "b/empty.jpg: no image, or cut in its header: begins with b''" in message
    assert "b/gone.png: neither" in message
    assert "b/pipe.png: neither" in message
    assert "c/d/5.png: no image, or cut in its header: begins with b'GIF89a" in message
    assert "c/d/6.png" not in message
    assert "and 3 more" in message
    (folder / "c/d/e.webp").unlink()
    with pytest.raises(ValueError, match=r"no image is left, 9 of the files"):
        open_source(str(folder / "c"), size=4, skip_bad_images=True)


def test_a_cut_body_is_refused_on_reading_or_left_out(folder):
    path = _write(folder / "b/cut.png", size=(64, 64))
    path.write_bytes(path.read_bytes()[:-4000])
    source = open_source(str(folder), size=8)
    assert len(source) == 6
    with pytest.raises(ValueError, match=r"photos/b/cut\.png: truncated"):
        list(batches(source, 2))
    (folder / "empty.jpg").touch()
    kept = open_source(str(folder), size=8, skip_bad_images=True)
    assert kept.keys == NAMES
    assert [name for name, _ in kept.skipped] == ["b/cut.png", "empty.jpg"]
    assert kept.skipped[1][1].startswith("no image")
    assert len(np.concatenate(list(batches(kept, 2)))) == 5
    with pytest.raises(ValueError, match="has 5 images"):
        open_source(str(folder), size=8, skip_bad_images=True, limit=6)


def test_links_are_followed_but_not_in_circles(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/more").symlink_to(folder / "b")
    (tmp_path / "outside/one.png").symlink_to(folder / "a.png")
    source = open_source(str(tmp_path / "outside"), size=4)
    assert source.keys == ("more/a.jpg", "more/z.bmp", "one.png")
    (folder / "b/back").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="links back"):
        open_source(str(tmp_path / "outside"), size=4)


def test_the_digest_follows_bytes_names_size_and_sample(folder):
    def digest(size=8, **options):
        return open_source(str(folder), size=size, **options).digest()

    first = digest()
    assert first == digest()
    assert len(first) == 64
    assert digest(size=9) != first
    assert digest(limit=4) != first
    data = (folder / "a.png").read_bytes()
    stamp = (folder / "a.png").stat()
    (folder / "a.png").write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    os.utime(folder / "a.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert digest() != first
    (folder / "a.png").write_bytes(data)
    assert digest() == first
    (folder / "a.png").rename(folder / "aa.png")
    assert digest() != first


def test_the_digest_does_not_depend_on_where_the_folder_is(folder, monkeypatch):
    first = open_source(str(folder), size=8).digest()
    monkeypatch.chdir(folder.parent)
    assert open_source("photos", size=8).digest() == first
    folder.rename(folder.parent / "noise")
    assert open_source("./noise", size=8).digest() == first


def test_digests_of_generators_follow_their_parameters():
    values = itertools.product(("dead_leaves", "noise"), (4, 5), (1, 2), (0, 1))
    sources = [open_source(s, size=h, limit=n, seed=seed) for s, h, n, seed in values]
    sources += [open_source(spec, size=4) for spec in ("black", "white")]
    assert len({source.digest() for source in sources}) == 18
    assert open_source("black", size=4, seed=5).digest() == open_source("black", size=4).digest()
