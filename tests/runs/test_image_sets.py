"""The images of a run: how many are made, where they are kept, and that a run makes each once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from posjax.images import Rolled, open_source
from posjax.runs import Settings, image_sets, run
from posjax.runs.image_sets import ImagePlan, memory_bytes, open_sets
from posjax.runs.plan import prepare


def settings(workdir, **changes):
    values = {
        "encoder": ("vgg8_bn_quarter",),
        "weights": ("random",),
        "paddings": ("zeros",),
        "images": "dead_leaves",
        "test_images": ("noise", "black"),
        "workdir": workdir,
        "solver": "ridge",
        "stages": ("f3",),
        "maps": ("H",),
        "seeds": (0, 1),
        "num_train": 6,
        "num_test": 5,
        "image_size": 32,
        "batch_size": 4,
        "controls": ("pixels", "roll"),
        "devices": 1,
    }
    return Settings(**(values | changes))


def test_kept_and_rolled_sets_are_the_images_that_were_opened(tmp_path):
    opened = open_sets(settings(tmp_path))
    assert len(opened) == 12
    assert [*opened.tests] == ["noise", "black"]
    rolled = opened.kept(32, None).rolled()
    np.testing.assert_array_equal(list(rolled.train), list(Rolled(opened.train, 0)))
    np.testing.assert_array_equal(
        list(rolled.tests["noise"]), list(Rolled(opened.tests["noise"], 1))
    )


def test_a_test_set_of_any_name_leaves_the_digest_of_the_training_images(tmp_path):
    sets = open_sets(settings(tmp_path))
    named = image_sets.ImageSets(sets.train, {"images": sets.tests["noise"]})
    assert named.digests["images"] == sets.digests["images"]
    assert len(named.digests) == 2


def images_of(settings):
    return prepare(settings).images.counts


def test_enlarged_alignments_look_at_larger_images(tmp_path):
    resnet = {"encoder": ("resnet20",), "image_size": 96}
    several = settings(tmp_path, paddings=("zeros", "valid@enlarged", "zeros@cropped"), **resnet)
    counts = images_of(several)
    assert counts == {96: 12, max(counts): 12}
    assert max(counts) > 128
    # The controls of what is compared on enlarged images need no others.
    enlarged = settings(tmp_path, paddings=("valid@enlarged",), controls=("roll",), **resnet)
    assert images_of(enlarged) == {max(counts): 12}


def test_a_quarter_of_the_memory_holds_images(tmp_path):
    side = 1 << 10
    most = memory_bytes() // 4 // (3 * side**2)
    for counts, place in (
        ({side: most}, None),
        ({side: most + 1}, tmp_path),
        ({side: most // 2, 2 * side: most // 8}, None),
        ({side: most // 2, 2 * side: most // 4}, tmp_path),
    ):
        assert ImagePlan(counts, tmp_path).place == place


def test_the_plan_says_how_many_images_are_made_and_where_they_are_kept():
    assert str(ImagePlan({96: 60}, Path("run"))) == "60, 1.7 MB kept in memory"
    assert str(ImagePlan({224: 1_000_000, 404: 1}, Path("run"))) == (
        "1,000,001 (1,000,000 of 224 pixels a side, 1 of 404 pixels a side), 150,528.5 MB kept in "
        "run"
    )


class Counting:
    """A source that counts how often each of its images is made."""

    def __init__(self, source, made):
        self.source, self.made = source, made
        self.name, self.keys, self.skipped = source.name, source.keys, source.skipped

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.made[self.keys[index]] += 1
        return self.source[index]

    def digest(self):
        return self.source.digest()


@pytest.fixture(scope="module")
def not_kept(tmp_path_factory):
    """results.csv and controls.csv of a run that makes images whenever it looks at them."""
    path = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_sets.ImageSets, "kept", lambda self, size, folder: self)
        run(settings(path), title="Plain", say=lambda _: None)
    return tables(path)


def tables(path):
    return [(path / name).read_text() for name in ("results.csv", "controls.csv")]


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_run_makes_each_image_once_and_finds_the_same(where, not_kept, tmp_path, monkeypatch):
    made, said = Counter(), []
    if where == "file":
        monkeypatch.setattr(image_sets, "memory_bytes", lambda: 0)
    monkeypatch.setattr(
        image_sets, "open_source", lambda *spec, **how: Counting(open_source(*spec, **how), made)
    )
    ours = settings(tmp_path)
    run(ours, title="Kept", say=said.append)
    keys = [*(f"dead_leaves/{i}" for i in range(6)), *(f"noise/{i}" for i in range(5)), "black"]
    assert made == Counter(keys)
    assert tables(tmp_path) == not_kept
    kept = "memory" if where == "memory" else tmp_path
    assert f"\nimages made:      12, 36.9 kB kept in {kept}\n" in said[0]
    assert [text for text in said if text.startswith("encoding: ")] == [said[-3]]
    # What is finished needs no images.
    run(ours, title="Kept", say=said.append)
    assert made == Counter(keys)
    assert sum(text.startswith("encoding: ") for text in said) == 1


def test_a_broken_image_ends_a_run_by_its_name(tmp_path, monkeypatch):
    class Broken(Counting):
        def __getitem__(self, index):
            if index == 2:
                raise ValueError(f"{self.keys[index]}: truncated")
            return super().__getitem__(index)

    monkeypatch.setattr(
        image_sets, "open_source", lambda *spec, **how: Broken(open_source(*spec, **how), Counter())
    )
    with pytest.raises(ValueError, match=r"dead_leaves/2: truncated"):
        run(settings(tmp_path), title="Broken", say=lambda _: None)
