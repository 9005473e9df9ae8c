"""Arrays at hand are images like those of files."""

import numpy as np
import pytest
from PIL import Image

from posjax.images import InMemory, open_source


@pytest.fixture
def arrays():
    numbers = np.random.default_rng(0)
    sizes = ((9, 12), (20, 7), (16, 16))
    return [numbers.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_arrays_are_the_images_that_files_of_them_would_be(arrays, tmp_path):
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{number}.png")
    of_files, at_hand = (open_source(spec, size=16) for spec in (str(tmp_path), InMemory(arrays)))
    np.testing.assert_array_equal(list(at_hand), list(of_files))
    floats = InMemory([array / np.float32(255) for array in arrays])
    np.testing.assert_array_equal(list(open_source(floats, size=16)), list(of_files))


def test_the_digest_follows_pixels_and_size(arrays):
    digest = open_source(InMemory(arrays), size=16).digest()
    assert digest == open_source(InMemory([*arrays]), size=16).digest()
    assert digest != open_source(InMemory(arrays), size=8).digest()
    changed = [*arrays[:2], arrays[2] ^ 1]
    assert digest != open_source(InMemory(changed), size=16).digest()


def test_a_limit_takes_a_sample_in_order(arrays):
    sample = open_source(InMemory(arrays, "mine"), size=16, limit=2, seed=1)
    assert len(sample) == 2
    assert list(sample.keys) == sorted(sample.keys)
    assert set(sample.keys) < {"mine[0]", "mine[1]", "mine[2]"}
    with pytest.raises(ValueError, match="mine has 3 images, fewer than 4"):
        open_source(InMemory(arrays, "mine"), size=16, limit=4)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((4, 4), np.uint8), r"found shape \(4, 4\)"),
        (np.zeros((4, 4, 1), np.uint8), r"found shape \(4, 4, 1\)"),
        (np.zeros((4, 4, 3), np.int32), "found int32"),
        (np.full((4, 4, 3), 7.0), r"expected values in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), r"expected values in \[0, 1\]"),
    ],
)
def test_what_is_no_image_is_refused_by_its_number(image, problem):
    with pytest.raises(ValueError, match=problem) as error:
        InMemory([np.zeros((4, 4, 3)), image], "mine")
    assert str(error.value).startswith("mine[1]: ")
    with pytest.raises(ValueError, match="mine: there are no images"):
        InMemory([], "mine")
