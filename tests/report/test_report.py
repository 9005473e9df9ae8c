"""The report: which sections and figures a run's results have."""

import re

from synthetic import LAYER_SPC, PHOTOS, layer_result, make_result, make_ridge_result

from posjax.report import write_report

LAST = ["Settings", "How to read it"]


def sections(folder, results, notes=()):
    path = write_report(folder, {"seeds": "0, 1"}, results, title="Padding", notes=notes)
    assert path == folder / "report.html"
    text = re.sub('base64,[^"]*', "", path.read_text("utf-8"))
    figures = sorted(figure.stem for figure in folder.glob("figures/*.png"))
    assert figures == sorted(figure.stem for figure in folder.glob("figures/*.svg"))
    assert text.count("<img") == len(figures)
    assert not list(folder.rglob("*.tmp"))
    return re.findall("<h2>(.*?)</h2>", text), figures, text


def test_a_grid_has_scores_profiles_galleries_and_losses(tmp_path):
    grid = {"maps": ("H", "G"), "sets": {PHOTOS: 3, "black": 1}}
    # Two results of one probe are one row, and the gallery shows the first.
    zeros = [make_result(seeds=(seed,), **grid) for seed in (0, 1)]
    results = [*zeros, make_result("valid", **grid)]
    headings, figures, text = sections(tmp_path, results, ["skipped <odd>.jpg"])
    assert headings == [
        *("Tables", "Differences between paddings", "Where in the image", "Predicted maps"),
        *("Training", "Beside the paper", *LAST),
    ]
    assert figures == [
        *("drawn", "errors-1-data-photos-more", "errors-2-black"),
        *(f"gallery-1-data-photos-more-{name}-1" for name in "GH"),
        *(f"gallery-2-black-{name}-1" for name in "GH"),
        *("losses", "mae", "profile-mae-1-data-photos-more", "profile-mae-2-black"),
        *("profile-spc-1-data-photos-more", "profile-spc-2-black", "spc"),
    ]
    assert "Means over 2 seeds and 3 images" in text
    answer, picture, settings = (text.index(s) for s in ("Readouts find H", "<img", "<h2>Settings"))
    assert answer < picture < settings
    assert "Draws the readout's initial weights" in text
    assert "skipped &lt;odd&gt;.jpg" in text
    assert all(path.stat().st_size < 300_000 for path in tmp_path.glob("figures/*.png"))


def test_controls_and_weights_have_sections_and_control_maps_no_differences(tmp_path):
    controls = ("", "shuffled_map")
    probes = [(padding, w) for padding in ("zeros", "valid") for w in ("cifar10", "b.npz")]
    results = [make_result(p, controls=controls, weights=weights) for p, weights in probes]
    headings, _, text = sections(tmp_path, results)
    assert headings[1] == "Controls"
    assert headings[3:5] == ["Differences between weights", "Selectivity"]
    tables = text.split("<h2>Tables")[1].split("<h2>")[0]
    assert "shuffled_map" not in tables
    between = text.split("<h2>Differences between paddings")[1].split("<h2>")[0]
    assert "shuffled_map" not in between


def test_closed_forms_have_penalties_and_no_training(tmp_path):
    results = [make_ridge_result(padding, maps=("H",)) for padding in ("zeros", "valid")]
    headings, figures, text = sections(tmp_path, results)
    assert headings[-4:] == ["Penalties", "Beside the paper", *LAST]
    assert "losses" not in figures
    assert "may leave [0, 1]" in text
    assert text.count("seed") == 1  # among the settings


def test_single_layers_have_a_section_and_do_not_fill_up_the_figures(tmp_path):
    results = [layer_result(*pair) for pair in LAYER_SPC.items()]
    headings, figures, text = sections(tmp_path, results)
    assert "Layer by layer" in headings
    assert "layers-1-vgg16-zeros-reflect-noise" in figures
    assert "+" not in text.split("<h2>Differences between paddings")[1].split("<h2>")[0]


def test_a_page_without_results_says_so(tmp_path):
    headings, figures, text = sections(tmp_path, [])
    assert (headings, figures) == (LAST, [])
    assert "no results yet" in text
