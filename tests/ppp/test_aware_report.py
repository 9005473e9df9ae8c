"""The report of padding-aware channels: how many there are, and what silencing them costs."""

import dataclasses

import numpy as np
import pytest
from synthetic import layer_result

from posjax.ppp.aware_maps import ChannelMaps
from posjax.ppp.aware_report import channel_figure, text_tables, write_report
from posjax.ppp.aware_statistics import BorderEffect, EncoderEffects
from posjax.ppp.silenced import ALIKE, AWARE

MAPS = ChannelMaps(*np.random.default_rng(0).normal(size=(3, 4, 4)))


def found(effects, left_out=(), pictures=None):
    return EncoderEffects("vgg16", "imagenet", "zeros", None, effects, left_out, pictures or {})


@pytest.fixture
def effects():
    def effect(channel, border, value, aware):
        return BorderEffect("a/conv", channel, border, value, value - 1, value + 1, 0.5, aware)

    rows = [effect(c, border, 0.2, False) for c in range(8) for border in ("top", "left")]
    return [*rows, effect(8, "top", -3.14, True), effect(8, "left", 2.0, True)]


@pytest.fixture
def results():
    """Without its aware channels it scores .5 less, without others .1 less."""
    return [
        dataclasses.replace(result, probe=dataclasses.replace(result.probe, control=control))
        for control, spc in (("", 0.8), (AWARE, 0.3), (ALIKE, 0.7))
        for result in [layer_result("zeros", spc)]
    ]


def test_channels_are_counted_once_and_by_border(effects, results):
    lines = text_tables([found(effects)], results).splitlines()
    head, row = (" ".join(line.split()) for line in lines[1:3])
    assert head == "encoder weights padding seed channels aware top bottom left right"
    assert row == "vgg16 imagenet zeros 9 1 (11 %) 1 0 1 0"


def test_silencing_is_compared_with_the_encoder_as_it_is_and_with_random_ones(
    tmp_path, effects, results
):
    shown = {("a/conv", 8): MAPS}
    one = found(effects, ["b/conv"], shown)
    path = write_report(tmp_path, {"encoder": "vgg16"}, [one], results, "Aware", ["a note"])
    text = path.read_text("utf-8")
    for part in (
        "<caption>SPC less that of the encoder as it is</caption>",
        "−.500 [−.500, −.500]",
        "−.100 [−.100, −.100]",
        "<caption>SPC less that of the encoder with random ones silenced</caption>",
        "−.400 [−.400, −.400]",
        "Not measured, with too small maps, transposed or in loops: b/conv.",
        "a note",
    ):
        assert part in text
    assert [path.name for path in tmp_path.glob("figures/*.png")] == ["aware-channels-0.png"]


def test_an_encoder_without_padded_layers_has_a_sentence(tmp_path, results):
    none, small = found([]), found([], ["b/conv"])
    text = text_tables([none, small], results[:1])
    assert "zeros: no layer pads." in text
    assert "zeros: b/conv have too small maps, are transposed or in loops." in text
    path = write_report(tmp_path, {}, [none], results[:1], "Aware", [])
    assert "No channel is aware: there is nothing to silence." in path.read_text("utf-8")


def test_true_and_padded_maps_share_a_scale(effects):
    figure = channel_figure(found(effects, pictures={("a/conv", 8): MAPS, ("a/conv", 1): MAPS}))
    images = [panel.images[0] for panel in figure.axes if panel.images]
    assert len(images) == 8
    assert images[1].get_clim() == images[2].get_clim()
    low, high = images[3].get_clim()
    assert low == -high
    np.testing.assert_allclose(np.asarray(images[3].get_array()), MAPS.padded - MAPS.true)
    label = figure.axes[0].get_ylabel()
    assert label.splitlines() == ["a", "conv", "channel 8", "top −3.1, left 2.0"]
