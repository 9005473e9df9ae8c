"""What figures share: a colour for each padding, lines that tell probes apart, PNG files."""

import dataclasses
import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from synthetic import PROBE

from posjax.layers import MODES
from posjax.report.panels import COLOURS, line_styles, panels_by_map, plain, png


def test_every_padding_mode_has_a_colour():
    assert set(COLOURS) == {*MODES, "none"}  # of the pixels
    assert len(set(COLOURS.values())) == len(MODES) + 1


def test_lines_take_the_colour_of_the_padding_and_a_style_for_each_other_difference():
    paddings = ("zeros", "valid", "valid@cropped", "zeros+a=reflect")
    probes = [dataclasses.replace(PROBE, padding=padding) for padding in paddings]
    styles = line_styles([*probes, dataclasses.replace(PROBE, depth=3)])
    colours = [COLOURS[mode] for mode in ("zeros", "valid", "valid", "zeros", "zeros")]
    assert [style["color"] for style in styles.values()] == colours
    zeros, valid, *others = (style["linestyle"] for style in styles.values())
    assert zeros == valid
    assert len({zeros, *others}) == 4


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no results"):
        panels_by_map([], height=2.0)


def test_texts_are_no_formulas_and_never_hidden():
    assert plain("_a$b$") == r" _a\$b\$"
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_xticks([0], [plain("/photos/of_$ums$")])
    assert png(figure)


def test_a_large_png_has_256_colours_and_drawing_leaves_no_trace_in_pyplot():
    before = dict(matplotlib.rcParams)
    figure = Figure(figsize=(4, 4), dpi=100)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    figure.figimage(noise)
    content = png(figure)
    assert len(content) < 180_000
    assert np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).shape == noise.shape
    assert dict(matplotlib.rcParams) == before
