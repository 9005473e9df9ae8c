"""Layer by layer: a table and a figure of what each layer's padding adds."""

from synthetic import LAYER_SPC, layer_result

from posjax.report import layers
from posjax.report.page import Picture
from posjax.results import layer_effects

EFFECTS = layer_effects([layer_result(*pair) for pair in LAYER_SPC.items()])


def test_the_table_has_a_row_for_each_layer_and_for_all():
    text, table, picture = layers.section(EFFECTS)
    assert "Alone" in text
    assert table.caption == "SPC that padding a layer by zeros adds to padding it by reflect"
    assert table.head == ["test images", "layer", "layers", "H"]
    assert table.rows == [
        ["noise", "a", "alone", ".200 [.200, .200]"],
        ["noise", "b", "alone", ".700 [.700, .700]"],
        ["noise", "a", "without", ".050 [.050, .050]"],
        ["noise", "b", "without", ".500 [.500, .500]"],
        ["noise", "", "all", ".800 [.800, .800]"],
    ]
    assert picture.name == "layers-1-vgg16-zeros-reflect-noise"


def test_several_probes_have_a_column_and_a_figure_each():
    deep = layer_effects([layer_result(*pair, depth=3) for pair in LAYER_SPC.items()])
    _, table, *pictures = layers.section([*EFFECTS, *deep])
    assert table.head[0] == "probe"
    assert {row[0] for row in table.rows} == {"depth 1", "depth 3"}
    assert [type(picture) for picture in pictures] == [Picture, Picture]


def test_the_figure_names_the_layers_from_the_image_onwards():
    figure = layers.figure(EFFECTS)
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b"]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["alone", "without", "all layers"]
