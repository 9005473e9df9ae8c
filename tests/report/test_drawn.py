"""The picture of the answer shows what readouts drew, with their scores."""

import numpy as np
import pytest
from synthetic import PHOTOS, make_result

from posjax.probes import position_map
from posjax.report import drawn_maps
from posjax.results import summarise


def test_each_map_stands_beside_what_is_drawn_of_it_and_its_score():
    results = [make_result(mode, maps=("H", "G"), sets={PHOTOS: 3}) for mode in ("zeros", "valid")]
    figure = drawn_maps(results, summarise(results))
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["target", "zeros", "valid", "", "", ""]
    target, drawn = figure.axes[3:5]
    np.testing.assert_allclose(
        target.images[0].get_array(), 255 * position_map("G", results[0].map_size), atol=0.5
    )
    np.testing.assert_array_equal(
        drawn.images[0].get_array(), results[0].galleries[PHOTOS].predictions[1, 0]
    )
    (row,) = (r for r in summarise(results) if (r.map, r.probe.padding) == ("G", "zeros"))
    assert f"{row.spc[0]:.2f}".removeprefix("0") in drawn.get_xlabel()


def test_test_images_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="test_images: 'moon' is not there"):
        drawn_maps([make_result("zeros")], [], "moon")
