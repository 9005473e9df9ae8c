"""Plans: what a run will do and what room it takes, before anything is encoded."""

import pytest

from posjax.runs import Settings
from posjax.runs.plan import prepare


def make_plan(workdir, **changes):
    options = {
        "encoder": ("resnet20",),
        "paddings": ("zeros", "reflect"),
        "images": "noise",
        "test_images": ("noise",),
        "num_train": 10,
        "num_test": 4,
        "image_size": 32,
        "seeds": (0,),
        "feature_dtype": "float32",
        "workdir": workdir,
        "devices": 1,
    }
    return prepare(Settings(**options | changes))


def line(plan, name):
    (found,) = [line for line in str(plan).splitlines() if line.startswith(f"{name}:")]
    return found.partition(":")[2].strip()


# Of one image: f1 and f2 of 28 x 28 x 16, f3 of 16 x 16 x 32, f4 of 8 x 8 x 64.
IMAGE = 4 * (2 * 28 * 28 * 16 + 16 * 16 * 32 + 8 * 8 * 64)


@pytest.mark.parametrize(
    ("limit", "held", "text"),
    [
        (None, 0, "4.2 MB in {cache}"),
        (28 * IMAGE + 9, 0, "4.2 MB in {cache}, of which cache_limit_gb allows 4.2 MB"),
        (
            27 * IMAGE,
            0,
            "allows 4.0 MB: 1 of 4 image sets do not fit (fewer if an earlier run kept some",
        ),
        (28 * IMAGE + 9, 10 * IMAGE, ": 1 of 4 image sets"),
        (0, 0, "allows 0.0 kB: 4 of 4 image sets"),
    ],
)
def test_it_says_how_many_image_sets_are_encoded_again(tmp_path, limit, held, text):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "file").write_bytes(b"x" * held)
    limit_gb = None if limit is None else limit / 1e9
    plan = make_plan(tmp_path, cache_dir=cache, cache_limit_gb=limit_gb)
    features = line(plan, "features")
    assert text.format(cache=cache) in features
    assert ("encoded again" in features) == ("image sets" in text)


def test_without_a_cache_it_counts_one_encoder_at_a_time(tmp_path):
    assert line(make_plan(tmp_path), "features") == "2.1 MB, of one encoder at a time"


def test_it_counts_the_passes_of_images_that_are_encoded_again(tmp_path):
    options = {"paddings": ("zeros",), "depths": (1, 2), "epochs": 3}
    assert line(make_plan(tmp_path, **options), "encoder passes") == "14 images"
    # Of two architectures, three epochs of 10 images each, and 4 test images once.
    streamed = make_plan(tmp_path, cache_limit_gb=0.0, **options)
    assert line(streamed, "encoder passes") == "68 images, 14 if all were kept"


def test_it_counts_readouts_on_encoders_and_controls(tmp_path):
    plan = make_plan(tmp_path, controls=("pixels", "selectivity"), maps=("H", "G"))
    # Two maps with two controls each on two encoders, and two maps on the pixels.
    assert line(plan, "trained") == "14 readouts on 2 encoders, and 1 for controls"
    assert line(plan, "preset") == "paper"


def test_it_tells_the_memory_of_ridge(tmp_path):
    plan = make_plan(tmp_path, solver="ridge", stages=("f3",))
    assert line(plan, "Gram matrix").startswith("288 columns, 0.7 MB;")
    assert line(plan, "training") == "ridge, in closed form; batches of 32"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ("f1+f2", "f2+f1")}, "stages names the same stages twice"),
        ({"stages": ("f9",)}, "stages: 'f9' must be 'all' or different stages of f1, f2, f3, f4"),
        ({"kernel_sizes": (31,)}, "31x31 .* leave nothing of features"),
        ({"paddings": ("valid",)}, "image_size=32: .*; or leave valid out of paddings"),
    ],
)
def test_it_refuses_settings_that_would_fail_after_hours(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_plan(tmp_path, **changes)
