import re
from html.parser import HTMLParser

import numpy as np
import pytest

from posjax.layers import MODES
from posjax.probes import MAPS, position_map
from posjax.probes.controls import Task
from posjax.results import paper
from posjax.results.differences import between_weights, paired_differences
from posjax.results.records import Gallery, PenaltyPath, Probe, Result, Scores, summarise
from posjax.report.report import write_report
from posjax.runs.settings import Settings
from posjax.report.terminal import text_table
from posjax.report.formatting import estimate, number

PHOTOS = '/data/<photos> & "more"'
VOID = {"meta", "img", "br", "hr", "link"}
SIZE = 28


def result(padding="zeros", maps=("H",), seeds=(0, 1), sets=None, losses=6, **probe):
    """Scores that differ everywhere; SPC is undefined on the last image of each last readout."""
    about = {"encoder": "vgg16", "weights": "imagenet", "stages": "f1+f2+f3+f4+f5"}
    about |= {"depth": 1, "kernel_size": 3, "readout_padding": 0, "solver": "sgd"} | probe
    rng = np.random.default_rng([*padding.encode(), about["depth"]])
    pairs = [(name, seed) for name in maps for seed in seeds]
    scores, galleries = {}, {}
    for name, n in (sets or {PHOTOS: 4}).items():
        spc = rng.uniform(-0.5, 1, (len(pairs), n))
        spc[-1, -1] = np.nan
        if padding == "circular":
            spc[:] = np.nan
        scores[name] = Scores(spc, rng.uniform(0, 0.4, spc.shape))
        k = min(4, n)
        galleries[name] = Gallery(
            rng.integers(0, 256, (k, SIZE, SIZE, 3)).astype(np.uint8),
            rng.integers(0, 256, (len(maps), k, SIZE, SIZE)).astype(np.uint8),
        )
    return Result(
        Probe(padding=padding, **about),
        tuple(Task(name) for name, _ in pairs),
        tuple(seed for _, seed in pairs),
        SIZE,
        rng.uniform(0.01, 0.1, (losses, len(pairs))),
        scores,
        galleries,
    )


def settings(workdir, **changes):
    values = {
        "encoder": ("vgg16",),
        "weights": ("imagenet",),
        "paddings": ("zeros",),
        "images": "dead_leaves",
        "test_images": (PHOTOS,),
        "workdir": workdir,
        "epochs": 3,
    }
    return Settings(**values | changes)


class Page(HTMLParser):
    """Tables by caption, in order, all text, pictures; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.words, self.pictures, self.links = [], [], [], [], []
        self.ids = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.pictures.append(attributes["src"])
        if tag == "a":
            self.links.append(attributes["href"])
        self.ids.extend(v for k, v in attributes.items() if k == "id")
        if tag == "table":
            self.tables.append(("", []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if "caption" in self.open:
            self.tables[-1] = (data, self.tables[-1][1])
        elif self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][1][-1][-1] += data

    def named(self, start):
        return [rows for caption, rows in self.tables if caption.startswith(start)]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def report(tmp_path, results, title="Padding", notes=(), **changes):
    path = write_report(tmp_path, settings(tmp_path, **changes), results, title=title, notes=notes)
    assert path == tmp_path / "report.html"
    return Page(path.read_text("utf-8"))


def test_the_full_grid_is_there_and_its_numbers_are_those_of_the_summaries(tmp_path):
    sets = {PHOTOS: 3, "black": 1, "white": 1, "noise": 3}
    results = [result(padding, MAPS, (0, 1), sets) for padding in MODES]
    page = report(tmp_path, results, paddings=MODES, maps=MAPS, test_images=tuple(sets))
    shown = {}
    for score in ("SPC", "MAE (best", "Skill"):
        tables = page.named(score)[: len(sets)]
        for test_images, (head, *rows) in zip(sets, tables, strict=True):
            assert head == ["padding", *MAPS]
            for padding, *cells in rows:
                for name, cell in zip(MAPS, cells, strict=True):
                    shown[score, test_images, padding, name] = cell.replace("−", "-")
    summaries = summarise(results)
    assert len(shown) == 3 * len(summaries)
    for row in summaries:
        key = row.test_images, row.probe.padding, row.map
        n = row.n_seeds * row.n_images
        spc = estimate(row.spc, n)
        if row.spc and row.spc_undefined:
            spc += f", {row.spc_undefined} undefined"
        assert shown["SPC", *key] == spc
        assert shown["MAE (best", *key] == estimate(row.mae, n)
        low, high = (number(1 - row.mae[end] / row.mae_constant) for end in (2, 1))
        interval = f" [{low}, {high}]" if n > 1 else ""
        assert shown["Skill", *key] == f"{number(row.skill)}{interval}"
    assert shown["SPC", "black", "circular", "H"] == "undefined"
    pictures = sorted((tmp_path / "figures").iterdir())
    assert len(pictures) == len(page.pictures) == 3 + len(sets) * len(MAPS)
    assert max(picture.stat().st_size for picture in pictures) < 300_000
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = report(tmp_path, [result()])
    assert all(source.startswith("data:image/png;base64,") for source in page.pictures)
    assert sorted(page.links) == sorted(f"#{target}" for target in page.ids)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"<script|<link|https?://|url\(", text)


def test_texts_are_shown_as_they_are(tmp_path):
    odd = "<b>\"x\" & 'y'</b>"
    page = report(tmp_path, [result()], title=odd, notes=[f"skipped {odd}.jpg"])
    for text in (odd, f"skipped {odd}.jpg", f"Test images {PHOTOS}"):
        assert text in page.text
    assert "skipped" not in report(tmp_path, [result()]).text


def test_settings_and_counts_are_told(tmp_path):
    facts = dict(report(tmp_path, [result(losses=6)], seeds=(0, 1)).tables[0][1])
    assert facts["test images"] == f"{PHOTOS} (4 images)"
    assert facts["training images"] == "dead_leaves (2 batches an epoch)"
    assert facts["seeds"] == "0, 1"
    facts = dict(report(tmp_path, [], num_train=1000).tables[0][1])
    assert facts["training images"] == "dead_leaves (1,000 images)"


def test_without_results_there_is_a_page_that_says_so(tmp_path):
    page = report(tmp_path, [])
    assert "no results yet" in page.text
    assert not page.pictures


def test_results_of_one_probe_are_one_row_and_the_gallery_shows_the_first(tmp_path):
    page = report(tmp_path, [result(seeds=(0,)), result(seeds=(1,))], weights=("random",))
    assert [row[0] for row in page.named("SPC")[0]] == ["padding", "zeros"]
    assert "Means over 2 seeds and 4 images" in page.text
    assert len(page.pictures) == 4


def test_a_single_value_has_no_interval(tmp_path):
    alone = result(seeds=(0,), sets={"black": 1}, padding="reflect")
    _, row = report(tmp_path, [alone]).named("MAE")[0]
    assert row == ["reflect", number(alone.scores["black"].mae.item())]


def ridge_result(padding="zeros", maps=("H", "V"), seeds=(None,), **probe):
    found = result(padding, maps, seeds, losses=1, solver="ridge", **probe)
    r = len(found.maps)
    held_out = np.linspace(0.02, 0.03, 3)[:, None] * np.ones(r)
    path = PenaltyPath(np.array([1.0, 0.1, 0.01]), held_out, np.array([1.0, *[0.1] * (r - 1)]))
    return Result(**vars(found) | {"path": path})


def test_a_closed_form_is_told_as_one_and_has_no_seeds(tmp_path):
    results = [ridge_result(), ridge_result("valid")]
    page = report(tmp_path, results, solver="ridge", maps=("H", "V"), weights=("w.npz",))
    facts = dict(page.tables[0][1])
    assert facts["seeds"] == "none"
    assert facts["training"] == "ridge, in closed form; batches of 32"
    assert facts["training images"] == "dead_leaves"
    for text in ("may leave [0, 1]", "Means over 4 images.", "on the same images", "draws images"):
        assert text in page.text
    assert "seed" not in page.text.replace("seeds none", "")
    assert "The paper has no numbers for linear readouts" in page.text
    assert not (tmp_path / "figures" / "losses.png").exists()
    (rows,) = page.named("Penalties")
    assert rows[0][:3] == ["padding", "map", "penalty"]
    assert [row[:4] for row in rows[1:3]] == [
        ["zeros", "H", "1 (end of the path)", ".0200"],
        ["zeros", "V", "0.1", ".0200"],
    ]
    assert rows[1][4:] == [
        number(results[0].losses[0, 0], 4),
        number(float(position_map("H", SIZE).var()), 4),
    ]
    assert "Of 1, 0.1, 0.01 it is" in page.text
    assert "Means over images; [low, high]: 95 % bootstrap interval over them" in text_table(
        results
    )
    assert "seed" not in text_table(results)


def test_closed_forms_of_random_encoders_have_the_encoders_seeds(tmp_path):
    results = [
        ridge_result(padding, seeds=(s,), weights="random")
        for padding in ("zeros", "valid")
        for s in (0, 1)
    ]
    page = report(tmp_path, results, solver="ridge", weights=("random",), seeds=(0, 1))
    assert dict(page.tables[0][1])["seeds"] == "0, 1"
    assert "Means over 2 seeds and 4 images." in page.text
    assert "Draws the weights of the encoder" in page.text
    (rows,) = page.named("Penalties")
    assert rows[0][:3] == ["padding", "seed", "map"]
    assert [row[1] for row in rows[1:]] == ["0", "0", "1", "1"] * 2


def test_closed_forms_are_paired_without_seeds():
    zeros, valid = ridge_result(), ridge_result("valid")
    rows = paired_differences([zeros, valid])
    assert [(row.map, row.n_seeds) for row in rows] == [("H", 1), ("V", 1)]
    expected = np.mean(valid.scores[PHOTOS].mae[0] - zeros.scores[PHOTOS].mae[0])
    assert rows[0].mae[0] == pytest.approx(expected)


def test_what_varies_among_probes_has_a_column(tmp_path):
    page = report(tmp_path, [result(), result(depth=3, kernel_size=5)])
    head, *rows = page.named("SPC")[0]
    assert head == ["padding", "depth", "kernel size", "H"]
    assert [row[:3] for row in rows] == [["zeros", "1", "3"], ["zeros", "3", "5"]]
    assert "one padding only" in page.text


def test_differences_are_paired_over_seeds_and_images():
    zeros, valid = result(seeds=(0, 1, 2)), result("valid", seeds=(2, 1))
    (row,) = paired_differences([valid, zeros])
    assert (row.probe.padding, row.reference, row.n_seeds) == ("valid", "zeros", 2)
    a, b = zeros.scores[PHOTOS], valid.scores[PHOTOS]
    assert row.mae[0] == pytest.approx(np.mean(b.mae - a.mae[[2, 1]]))
    assert row.spc[0] == pytest.approx(np.nanmean(b.spc - a.spc[[2, 1]]))
    # Image 4 lacks an SPC in seed 2 of one and in seed 1 of the other.
    assert row.spc_undefined == 2
    assert row.spc[1] < row.spc[0] < row.spc[2]


def test_weights_are_compared_with_the_first_under_the_same_padding(tmp_path):
    probes = [(w, p) for w in ("cifar10", "cifar10:zeros") for p in ("zeros", "reflect")]
    results = [result(padding, weights=weights) for weights, padding in probes]
    for step, one in enumerate(results):
        one.scores[PHOTOS].mae[:] += step / 8
    pixels = result("none", weights="none", encoder="pixels")
    rows = between_weights([pixels, *results, result(weights="random", control="random")])
    found = [(row.probe.padding, row.probe.weights, row.reference) for row in rows]
    assert found == [(p, "cifar10:zeros", "cifar10") for p in ("zeros", "reflect")]
    for row in rows:
        assert row.mae[0] == pytest.approx(2 / 8)
    page = report(tmp_path, results)
    _head, *body = page.named("MAE less that of cifar10")[0]
    assert [line[0] for line in body] == ["zeros", "reflect"]
    assert not between_weights([result(), result("reflect")])


def test_a_constant_shift_has_an_interval_without_width():
    zeros = result()
    scores = {name: Scores(s.spc - 0.25, s.mae + 0.125) for name, s in zeros.scores.items()}
    other = result("reflect")
    other = Result(**vars(other) | {"scores": scores})
    (row,) = paired_differences([zeros, other])
    np.testing.assert_allclose(row.spc, -0.25)
    np.testing.assert_allclose(row.mae, 0.125)


def test_differences_compare_like_with_like():
    results = [result("reflect"), result("valid"), result("valid", depth=2)]
    rows = paired_differences(results)
    assert [(row.reference, row.probe.padding, row.probe.depth) for row in rows] == [
        ("reflect", "valid", 1)
    ]
    assert paired_differences([result(seeds=(0,)), result("valid", seeds=(1,))]) == []
    assert paired_differences([]) == []


def test_differences_under_a_view_are_those_from_the_reference_under_it():
    paddings = ("zeros", "valid", "zeros@cropped", "valid@cropped", "reflect+features.0=zeros")
    results = [result(padding) for padding in paddings]
    rows = {row.probe.padding: row for row in paired_differences(results)}
    assert {padding: row.reference for padding, row in rows.items()} == {
        "valid": "zeros",
        "valid@cropped": "zeros@cropped",
        "reflect+features.0=zeros": "zeros",
    }
    expected = results[3].scores[PHOTOS].mae - results[2].scores[PHOTOS].mae
    assert rows["valid@cropped"].mae[0] == pytest.approx(expected.mean())


def test_pixels_have_no_padding_to_compare_with():
    pixels = {"encoder": "pixels", "weights": "none", "stages": "f1"}
    results = [result("none", **pixels), result("reflect"), result("replicate")]
    (row,) = paired_differences(results)
    assert (row.probe.padding, row.reference) == ("replicate", "reflect")
    assert paired_differences(results[:1]) == []


def test_the_differences_are_in_the_page(tmp_path):
    results = [result(), result("circular"), result("valid")]
    page = report(tmp_path, results)
    spc, mae = page.named("SPC less")[0], page.named("MAE less")[0]
    assert spc[1] == ["circular", "undefined"]
    rows = {row.probe.padding: row for row in paired_differences(results)}
    assert mae[2][1].replace("−", "-") == estimate(rows["valid"].mae, 8)


@pytest.mark.parametrize(
    ("probe", "test_images", "name", "expected"),
    [
        ({}, "/photos", "H", ("1", "PASCAL-S", 0.742, 0.149, 0.149)),
        ({}, "tfds:x", "H", ("1", "PASCAL-S", 0.742, 0.149, 0.149)),
        ({"encoder": "resnet152"}, "noise", "VS", ("1", "noise", 0.523, 0.545, 0.2725)),
        ({"depth": 3}, "/photos", "HS", ("2a", "PASCAL-S", 0.491, 0.54, 0.27)),
        ({"kernel_size": 7}, "/photos", "G", ("2b", "PASCAL-S", 0.816, 0.111, 0.111)),
        ({"stages": "f5"}, "/photos", "G", ("3", "PASCAL-S", 0.693, 0.135, 0.135)),
        ({"padding": "valid"}, "/photos", "H", ("4", "PASCAL-S", 0.381, 0.223, 0.223)),
        ({"padding": "valid"}, "black", "H", None),
        ({"padding": "reflect"}, "/photos", "H", None),
        ({"padding": "valid", "encoder": "resnet152"}, "/photos", "H", None),
        ({"stages": "f5", "encoder": "resnet152"}, "/photos", "H", None),
        ({"stages": "f1+f3"}, "/photos", "H", None),
        ({"depth": 4}, "/photos", "H", None),
        ({"depth": 3, "kernel_size": 7}, "/photos", "H", None),
        ({"readout_padding": 1}, "/photos", "H", None),
        ({"encoder": "vgg16_bn"}, "/photos", "H", None),
        ({}, "dead_leaves", "H", None),
        ({"solver": "ridge"}, "/photos", "H", None),
    ],
)
def test_the_paper_is_asked_for_the_same_thing(probe, test_images, name, expected):
    rows = paper.counterparts(summarise([result(maps=(name,), sets={test_images: 2}, **probe)]))
    found = [(row.table, row.test_images, row.spc, row.mae, row.rescaled_mae) for row in rows]
    assert found == ([expected] if expected else [])


def test_the_papers_stripes_are_printed_and_halved(tmp_path):
    page = report(tmp_path, [result(maps=("H", "HS"), weights="random")], maps=("H", "HS"))
    head, h, hs = page.named("The paper's numbers")[0]
    assert head[:4] == ["table", "padding", "map", "images"]
    assert head[4:] == ["SPC: paper", "ours", "MAE: paper, as printed", "paper, on [0, 1]", "ours"]
    assert h[:5] == ["1", "zeros", "H", f"{PHOTOS} (paper: PASCAL-S)", ".742"]
    assert h[6:8] == [".149", ".149"]
    assert hs[6:8] == [".556", ".2780 (halved)"]
    assert "range from −1 to 1" in page.text
    assert "ours are random" in page.text
    other = report(tmp_path, [result()])
    assert "range from −1 to 1" not in other.text
    assert "ours are random" not in other.text


def test_where_the_paper_has_nothing_the_page_says_so(tmp_path):
    assert "no numbers for resnet20" in report(tmp_path, [result(encoder="resnet20")]).text
    assert "no numbers for these" in report(tmp_path, [result("reflect")]).text


def test_the_text_table_is_narrow_and_holds_the_means():
    sets = {PHOTOS: 3, "black": 1}
    results = [result(padding, MAPS, (0, 1), sets) for padding in MODES]
    table = text_table(results)
    assert max(map(len, table.splitlines())) <= 112
    assert f"Test images {PHOTOS}: 2 seeds and 3 images" in table
    for row in summarise(results):
        assert estimate(row.spc, 2, 2) in table
        assert estimate(row.mae, 2, 2) in table
    assert re.search(r"^circular +undefined", table, re.M)
    assert re.search(r"^best constant( +\.\d\d){3,}$", table, re.M)
    assert "95 % bootstrap interval" in table


def test_the_text_table_without_results_says_so():
    assert text_table([]) == "no results"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9312, ".931"), (-0.05, "-.050"), (1.0, "1.000"), (-1.0, "-1.000"), (-0.0001, ".000")],
)
def test_numbers_have_three_decimals_and_no_leading_zero(value, text):
    assert number(value) == text
