"""Layer by layer: a table and a figure of what each layer's padding adds."""

from synthetic import LAYER_SPC, layer_result

from posjax.report import layers
from posjax.results import layer_effects

EFFECTS = layer_effects([layer_result(*pair) for pair in LAYER_SPC.items()])


def test_the_table_has_a_row_for_each_layer_and_for_all():
    text, table = layers.tables(EFFECTS)
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


def test_several_probes_have_a_column():
    deep = layer_effects([layer_result(*pair, depth=3) for pair in LAYER_SPC.items()])
    _, table = layers.tables([*EFFECTS, *deep])
    assert table.head[0] == "probe"
    assert {row[0] for row in table.rows} == {"depth 1", "depth 3"}
    assert len(layers.by_figure([*EFFECTS, *deep])) == 2


def test_the_figure_names_the_layers_from_the_image_onwards():
    ((_, group),) = layers.by_figure(EFFECTS).items()
    (panel,) = layers.figure(group).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b"]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]
