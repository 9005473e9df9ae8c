"""Layer effects: what one layer's padding adds, and what is lost without it."""

import numpy as np
from synthetic import LAYER_SPC, layer_result

from posjax.results import layer_effects

RESULTS = [layer_result(padding, spc) for padding, spc in LAYER_SPC.items()]


def by_layer(effects):
    return {(row.kind, row.layer): row.difference for row in effects}


def test_effects_are_differences_between_zeros_and_the_other_mode():
    effects = layer_effects(RESULTS)
    expected = {
        ("alone", "a"): 0.2,
        ("alone", "b"): 0.7,
        ("without", "a"): 0.05,
        ("without", "b"): 0.5,
        ("all", None): 0.8,
    }
    assert by_layer(effects).keys() == expected.keys()
    for key, value in expected.items():
        # The images and seeds are the same, so that nothing varies.
        np.testing.assert_allclose(by_layer(effects)[key], value, atol=1e-6)
    assert {(row.mode, row.other) for row in effects} == {("zeros", "reflect")}


def test_without_zeros_the_first_mode_is_compared():
    spc = {"circular": 0.9, "reflect+a=circular": 0.3, "circular+a=reflect": 0.85, "reflect": 0.1}
    effects = layer_effects([layer_result(*pair) for pair in spc.items()])
    assert {(row.mode, row.other) for row in effects} == {("reflect", "circular")}
    assert {key: round(mean, 6) for key, (mean, _, _) in by_layer(effects).items()} == {
        ("without", "a"): -0.2,
        ("alone", "a"): -0.05,
        ("all", None): -0.8,
    }


def test_controls_and_layers_without_a_counterpart_have_no_effect():
    assert layer_effects([layer_result("reflect+a=zeros", 0.5), RESULTS[0]]) == []
    assert layer_effects([layer_result(*pair, control="roll") for pair in LAYER_SPC.items()]) == []
    assert layer_effects(RESULTS[:2]) == []
