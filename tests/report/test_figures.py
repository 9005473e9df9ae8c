import io
import warnings

import numpy as np
import pytest
from PIL import Image

from posjax.layers import MODES
from posjax.probes import MAPS, position_map
from posjax.probes.controls import Task
from posjax.report import figures
from posjax.results.records import Probe, Result, Scores, Summary, summarise

SETS = ("/photos/of_$ums$ & more", "black", "_white", "noise")


def summary(padding="zeros", name="H", test_images="noise", spc=0.5, **probe):
    about = {"stages": "f1+f2", "depth": 1, "kernel_size": 3, "readout_padding": 0, **probe}
    return Summary(
        probe=Probe("vgg16", "random", padding, solver="sgd", **about),
        map=name,
        test_images=test_images,
        n_seeds=3,
        n_images=8,
        spc=None if spc is None else (spc, spc - 0.1, spc + 0.1),
        spc_undefined=24 if spc is None else 0,
        mae=(0.1, 0.08, 0.12),
        mae_constant=0.25,
        skill=0.6,
    )


def result(padding, losses, maps=("H",), seeds=(0,)):
    probe = Probe("vgg16", "random", padding, "f1", 1, 3, 0, "sgd")
    score = np.ones((len(maps), 2))
    return Result(
        probe, tuple(map(Task, maps)), seeds, 28, losses, {"noise": Scores(score, score)}, {}
    )


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_bar_is_as_long_as_the_mean_and_its_line_spans_the_interval():
    panel, other = figures.bars([summary(), summary(name="V", spc=-0.3)], "spc").axes
    assert [bar.get_width() for bar in panel.patches] == [0.5]
    np.testing.assert_allclose(panel.lines[0].get_xdata(), (0.4, 0.6))
    assert [bar.get_width() for bar in other.patches] == [-0.3]
    assert panel.get_title() == "H"
    assert panel.get_xlim() == other.get_xlim() == (-1.02, 1.02)


def test_an_undefined_spc_is_written_and_has_no_bar():
    (panel,) = figures.bars([summary(), summary("circular", spc=None)], "spc").axes
    assert texts(panel) == ["undef."]
    assert len(panel.patches) == 1
    assert [label.get_text() for label in panel.get_yticklabels()] == ["zeros", "circular"]


def test_all_undefined_can_be_drawn():
    (panel,) = figures.bars([summary(spc=None)], "spc").axes
    assert texts(panel) == ["undef."]


def test_the_best_constant_stands_beside_mae_but_not_beside_spc():
    for metric, expected in (("mae", True), ("spc", False)):
        (panel,) = figures.bars([summary()], metric).axes
        dashed = [line for line in panel.lines if line.get_linestyle() == "--"]
        assert bool(dashed) is expected
        assert all(line.get_xdata() == [0.25, 0.25] for line in dashed)


def test_what_tells_probes_apart_labels_their_rows():
    rows = [summary(depth=1), summary(depth=3), summary("reflect", depth=1)]
    (panel,) = figures.bars(rows, "spc").axes
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["zeros, depth 1", "zeros, depth 3", "reflect, depth 1"]


@pytest.mark.parametrize("metric", ["spc", "mae"])
@pytest.mark.parametrize(
    ("paddings", "maps", "sets"), [(MODES, MAPS, SETS), (("zeros",), ("H",), ("noise",))]
)
def test_bars_of_one_group_never_overlap_and_texts_stay_inside(metric, paddings, maps, sets):
    rows = [summary(p, m, t) for p in paddings for m in maps for t in sets]
    figure = figures.bars(rows, metric)
    content = figures.png(figure)
    assert len(content) < 300_000
    for panel in figure.axes:
        edges = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in panel.patches)
        assert len(edges) == len(paddings) * len(sets)
        assert all(edges[i][1] <= edges[i + 1][0] + 1e-9 for i in range(len(edges) - 1))
    renderer = figure.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    boxes.sort(key=lambda box: box.y0)
    assert all(boxes[i].y1 <= boxes[i + 1].y0 for i in range(len(boxes) - 1))
    legend = figure.legends[0].get_window_extent(renderer)
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert len(figure.legends[0].get_texts()) == len(sets) + (metric == "mae")


def test_losses_are_means_over_the_seeds_of_all_results_of_a_probe():
    one = result("zeros", np.array([[4.0, 9.0], [2.0, 9.0]]), ("H", "V"), (0, 0))
    two = result("zeros", np.array([[2.0], [1.0]]), ("H",), (1,))
    figure = figures.losses([one, two, result("valid", np.ones((2, 1)))])
    panel, other = figure.axes
    curve, valid, constant = panel.lines
    np.testing.assert_allclose(curve.get_xdata(), (1, 2))
    np.testing.assert_allclose(curve.get_ydata(), (3, 1.5))
    assert (curve.get_color(), valid.get_color()) == (
        figures.COLOURS["zeros"],
        figures.COLOURS["valid"],
    )
    assert constant.get_ydata()[0] == pytest.approx(position_map("H", 28).var())
    np.testing.assert_allclose(other.lines[0].get_ydata(), (9, 9))


def test_long_losses_are_thinned_without_losing_their_mean():
    losses = np.random.default_rng(0).random((1000, 1)) + 0.1
    curve = figures.losses([result("zeros", losses)]).axes[0].lines[0]
    assert len(curve.get_xdata()) == 200
    assert curve.get_ydata().mean() == pytest.approx(losses.mean())


def test_every_padding_mode_has_a_colour_of_its_own():
    assert set(figures.COLOURS) == {*MODES, "none"}  # of the pixels
    assert len(set(figures.COLOURS.values())) == len(MODES) + 1


def test_a_gallery_shows_images_target_and_predictions_on_one_scale():
    images = np.full((2, 32, 32, 3), (200, 30, 30), np.uint8)
    dark, bright = np.zeros((2, 32, 32), np.uint8), np.full((2, 32, 32), 255, np.uint8)
    figure = figures.gallery("H", images, {"zeros": dark, "valid, depth 3": bright})
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["image", "H: target", "zeros", "valid\ndepth 3"]
    sheet = figure.axes[0].images[0].get_array()
    yellow, violet = (np.array(figures.COLOUR_MAP(end)[:3]) * 255 for end in (1.0, 0.0))
    step, middle = figures._CELL + figures._GAP, figures._CELL // 2
    for row in (middle, step + middle):
        np.testing.assert_array_equal(sheet[row, middle], (200, 30, 30))
        np.testing.assert_allclose(sheet[row, step + 1], violet, atol=3)
        np.testing.assert_allclose(sheet[row, 2 * step - figures._GAP - 2], yellow, atol=3)
        np.testing.assert_allclose(sheet[row, 2 * step + middle], violet, atol=1)
        np.testing.assert_allclose(sheet[row, 3 * step + middle], yellow, atol=1)
    # One to one: the file holds the very pixels of the sheet.
    saved = pixels(figures.png(figure))
    assert (saved == (200, 30, 30)).all(axis=-1).sum() == 2 * figures._CELL**2


def test_a_gallery_of_noise_is_no_large_file_and_keeps_its_colours():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 112, 112, 3)).astype(np.uint8)
    rough = rng.integers(0, 256, (4, 26, 26)).astype(np.uint8)
    blown_up = np.stack([np.asarray(Image.fromarray(m).resize((224, 224), 2)) for m in rough])
    figure = figures.gallery("G", images, dict.fromkeys(MODES, blown_up))
    exact = figure.axes[0].images[0].get_array()
    content = figures.png(figure)
    assert len(content) < 300_000
    saved = pixels(content).astype(int)
    top = saved.shape[0] - exact.shape[0] - 4
    shown = saved[top : top + exact.shape[0], 4 : 4 + exact.shape[1]]
    maps = slice(figures._CELL + figures._GAP, None)
    assert np.abs(shown - exact)[:, maps].mean() < 3
    assert saved[0, 0].min() >= 252


def test_nothing_to_draw_is_refused():
    for draw in (lambda: figures.bars([], "spc"), lambda: figures.losses([])):
        with pytest.raises(ValueError, match="no results"):
            draw()


def test_drawing_leaves_no_trace_in_pyplot():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.png(figures.bars(summarise([result("zeros", np.ones((2, 1)))]), "mae"))
    assert dict(matplotlib.rcParams) == before
