"""Figures: bars, lines and maps show the values that they were given."""

import io

import numpy as np
import pytest
from PIL import Image
from synthetic import make_result, summary

from posjax.layers import MODES
from posjax.probes import position_map
from posjax.report import figures
from posjax.report.panels import COLOUR_MAP, COLOURS, png
from posjax.results import Profile, profiles

SETS = ("/photos/of_$ums$ & more", "black", "_white", "noise")


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_bar_is_as_long_as_the_mean_and_its_line_spans_the_interval():
    panel, other = figures.bars([summary(), summary(name="V", spc=-0.3)], "spc").axes
    assert [bar.get_width() for bar in panel.patches] == [0.5]
    np.testing.assert_allclose(panel.lines[0].get_xdata(), (0.4, 0.6))
    assert [bar.get_width() for bar in other.patches] == [-0.3]
    assert panel.get_title() == "H"
    assert panel.get_xlim() == other.get_xlim() == (-1.02, 1.02)


def test_an_undefined_spc_is_written_and_has_no_bar():
    (panel,) = figures.bars([summary(), summary("circular", spc=None)], "spc").axes
    assert [text.get_text() for text in panel.texts] == ["undef."]
    assert len(panel.patches) == 1
    assert labels(panel) == ["zeros", "circular"]
    (panel,) = figures.bars([summary(spc=None)], "spc").axes
    assert not panel.patches


@pytest.mark.parametrize(("metric", "count"), [("mae", 1), ("spc", 0)])
def test_the_best_constant_stands_beside_mae_alone(metric, count):
    (panel,) = figures.bars([summary()], metric).axes
    dashed = [line for line in panel.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata() for line in dashed] == [[0.25, 0.25]] * count


def test_what_tells_probes_apart_labels_their_rows():
    rows = [summary(depth=1), summary(depth=3), summary("reflect", depth=1)]
    (panel,) = figures.bars(rows, "spc").axes
    assert labels(panel) == ["zeros, depth 1", "zeros, depth 3", "reflect, depth 1"]


def test_bars_never_overlap_and_texts_stay_inside():
    rows = [summary(p, m, t) for p in MODES for m in ("H", "G", "HS") for t in SETS]
    figure = figures.bars(rows, "mae")
    assert len(png(figure)) < 300_000
    for panel in figure.axes:
        edges = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in panel.patches)
        assert len(edges) == len(MODES) * len(SETS)
        assert all(edges[i][1] <= edges[i + 1][0] + 1e-9 for i in range(len(edges) - 1))
    renderer = figure.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    boxes.sort(key=lambda box: box.y0)
    assert all(boxes[i].y1 <= boxes[i + 1].y0 for i in range(len(boxes) - 1))
    legend = figure.legends[0].get_window_extent(renderer)
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert len(figure.legends[0].get_texts()) == len(SETS) + 1


def with_losses(padding, losses, maps=("H",), seeds=(0,)):
    result = make_result(padding, maps, seeds)
    return type(result)(**vars(result) | {"losses": losses})


def test_losses_are_means_over_the_seeds_of_all_results_of_a_probe():
    one = with_losses("zeros", np.array([[4.0, 9.0], [2.0, 9.0]]), ("H", "V"))
    two = with_losses("zeros", np.array([[2.0], [1.0]]), seeds=(1,))
    panel, other = figures.losses([one, two, with_losses("valid", np.ones((2, 1)))]).axes
    curve, valid, constant = panel.lines
    np.testing.assert_allclose(curve.get_xdata(), (1, 2))
    np.testing.assert_allclose(curve.get_ydata(), (3, 1.5))
    assert [curve.get_color(), valid.get_color()] == [COLOURS["zeros"], COLOURS["valid"]]
    assert constant.get_ydata()[0] == pytest.approx(position_map("H", 28).var())
    np.testing.assert_allclose(other.lines[0].get_ydata(), (9, 9))


def test_long_losses_are_thinned_without_losing_their_mean():
    losses = np.random.default_rng(0).random((1000, 1)) + 0.1
    curve = figures.losses([with_losses("zeros", losses)]).axes[0].lines[0]
    assert len(curve.get_xdata()) == 200
    assert np.mean(curve.get_ydata()) == pytest.approx(losses.mean())


def test_profiles_show_the_mean_of_every_ring():
    rows = profiles([make_result(padding, ("H", "G")) for padding in ("zeros", "valid")])
    for metric in ("spc", "mae"):
        panel, other = figures.profiles(rows, metric).axes
        assert (panel.get_title(), other.get_title()) == ("H", "G")
        for line, row in zip(panel.lines, rows[::2], strict=True):
            np.testing.assert_allclose(line.get_ydata(), getattr(row, metric)[0])
            assert line.get_color() == COLOURS[row.probe.padding]


def test_errors_share_a_scale_in_every_column():
    rings = np.zeros((3, 14))
    rows = [
        Profile(summary(padding).probe, name, "noise", rings, rings, np.full((28, 28), top))
        for padding, name, top in (
            *(("zeros", "H", 0.1), ("zeros", "G", 0.2)),
            *(("valid", "H", 0.4), ("valid", "G", 0.2)),
        )
    ]
    panels = figures.errors(rows).axes[:4]
    assert [panel.get_ylabel() for panel in panels[::2]] == ["zeros", "valid"]
    assert [panel.images[0].get_clim()[1] for panel in panels] == [0.4, 0.2, 0.4, 0.2]


def test_a_gallery_shows_images_target_and_predictions():
    images = np.full((2, 32, 32, 3), (200, 30, 30), np.uint8)
    dark, bright = np.zeros((2, 32, 32), np.uint8), np.full((2, 32, 32), 255, np.uint8)
    figure = figures.gallery("H", images, {"zeros": dark, "valid, depth 3": bright})
    headings = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert headings == ["image", "H: target", "zeros", "valid\ndepth 3"]
    sheet = figure.axes[0].images[0].get_array()
    yellow, violet = (np.array(COLOUR_MAP(end)[:3]) * 255 for end in (1.0, 0.0))
    for row in (56, 118 + 56):  # cells of 112 pixels, 6 apart
        np.testing.assert_array_equal(sheet[row, 56], (200, 30, 30))
        np.testing.assert_allclose(sheet[row, 119], violet, atol=3)
        np.testing.assert_allclose(sheet[row, 228], yellow, atol=3)
        np.testing.assert_allclose(sheet[row, 236 + 56], violet, atol=1)
        np.testing.assert_allclose(sheet[row, 354 + 56], yellow, atol=1)


def test_a_gallery_of_noise_is_small_and_keeps_the_colours_of_its_maps():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 112, 112, 3), np.uint8)
    maps = rng.integers(0, 256, (4, 26, 26), np.uint8)
    flat = np.full_like(maps, 153)  # between two of the palette's shades
    content = png(figures.gallery("G", images, dict.fromkeys(MODES[1:], maps) | {"flat": flat}))
    assert len(content) < 300_000
    saved = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    colour = np.array(COLOUR_MAP(153, bytes=True)[:3])
    shown = np.abs(saved - colour).max(axis=-1) <= 3
    assert shown.sum() > 0.8 * len(flat) * 112**2
    assert saved[0, 0].min() >= 252


def test_figures_take_any_file_name():
    name = "ph\udcffotos"
    figure = figures.bars([summary(test_images=name, weights=f"{name}.npz")], "spc")
    assert png(figure).startswith(b"\x89PNG")
    image = np.zeros((1, 8, 8, 3), np.uint8)
    assert png(figures.gallery("H", image, {name: image[..., 0]})).startswith(b"\x89PNG")
