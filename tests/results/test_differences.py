"""Differences: like is compared with like, on the same seeds and images; single layers."""

import dataclasses

import numpy as np
import pytest
from synthetic import (
    LAYER_SPC,
    PHOTOS,
    layer_result,
    make_result,
    make_ridge_result,
    with_scores,
)

from posjax.results import (
    between_controls,
    between_weights,
    layer_effects,
    paired_differences,
    selectivities,
)


def test_differences_are_paired_over_seeds_and_images():
    zeros, valid = make_result(seeds=(0, 1, 2)), make_result("valid", seeds=(2, 1))
    (row,) = paired_differences([valid, zeros])
    assert (row.probe.padding, row.reference, row.n_seeds) == ("valid", "zeros", 2)
    a, b = zeros.scores[PHOTOS], valid.scores[PHOTOS]
    assert row.mae[0] == pytest.approx(np.mean(b.mae - a.mae[[2, 1]]))
    assert row.spc[0] == pytest.approx(np.nanmean(b.spc - a.spc[[2, 1]]))
    # The last image lacks an SPC in seed 2 of one and in seed 1 of the other.
    assert row.spc_undefined == 2
    assert row.spc[1] < row.spc[0] < row.spc[2]


def test_a_constant_shift_has_an_interval_without_width():
    zeros = make_result()
    scores = zeros.scores[PHOTOS]
    shifted = with_scores(make_result("reflect"), scores.spc - 0.25, scores.mae + 0.125)
    (row,) = paired_differences([zeros, shifted])
    np.testing.assert_allclose(row.spc, -0.25)
    np.testing.assert_allclose(row.mae, 0.125)


def test_closed_forms_are_paired_without_seeds():
    zeros, valid = make_ridge_result(), make_ridge_result("valid")
    rows = paired_differences([zeros, valid])
    assert [(row.map, row.n_seeds) for row in rows] == [("H", 1), ("V", 1)]
    expected = np.mean(valid.scores[PHOTOS].mae[0] - zeros.scores[PHOTOS].mae[0])
    assert rows[0].mae[0] == pytest.approx(expected)


def test_probes_without_a_counterpart_are_skipped():
    results = [make_result("reflect"), make_result("valid"), make_result("valid", depth=2)]
    (row,) = paired_differences(results)
    assert (row.reference, row.probe.padding, row.probe.depth) == ("reflect", "valid", 1)
    other_seeds = [make_result(seeds=(0,)), make_result("valid", seeds=(1,))]
    assert paired_differences(other_seeds) == []
    assert paired_differences([]) == []


def test_controls_are_compared_with_one_another_and_with_none_over_all_seeds():
    plain, less = make_result(), with_control(make_result("reflect"), "less")
    others = [with_control(make_result("valid", seeds=(seed,)), "other") for seed in (0, 1)]
    results = [plain, less, *others]
    mae = {r.probe.control: r.scores[PHOTOS].mae for r in results[:2]}
    mae["other"] = np.concatenate([r.scores[PHOTOS].mae for r in others])
    for control, reference in (("less", ""), ("less", "other"), ("other", "")):
        (row,) = between_controls(results, control, reference, "name")
        assert (row.probe.control, row.reference, row.n_seeds) == (control, "name", 2)
        assert row.mae[0] == pytest.approx(np.mean(mae[control] - mae[reference]))
    assert between_controls(results, "less", "missing", "name") == []


def with_control(result, control):
    """The result as that of a control of `zeros`."""
    probe = dataclasses.replace(result.probe, padding="zeros", control=control)
    return dataclasses.replace(result, probe=probe)


def test_aligned_paddings_are_compared_with_the_reference_under_the_same_alignment():
    paddings = ("zeros", "valid", "zeros@cropped", "valid@cropped", "reflect+features.0=zeros")
    results = [make_result(padding) for padding in paddings]
    rows = {row.probe.padding: row for row in paired_differences(results)}
    assert {padding: row.reference for padding, row in rows.items()} == {
        "valid": "zeros",
        "valid@cropped": "zeros@cropped",
        "reflect+features.0=zeros": "zeros",
    }
    expected = results[3].scores[PHOTOS].mae - results[2].scores[PHOTOS].mae
    assert rows["valid@cropped"].mae[0] == pytest.approx(expected.mean())


def test_pixels_have_no_padding_to_compare_with():
    pixels = make_result("none", encoder="pixels", weights="none", stages="f1")
    (row,) = paired_differences([pixels, make_result("reflect"), make_result("replicate")])
    assert (row.probe.padding, row.reference) == ("replicate", "reflect")
    assert paired_differences([pixels]) == []


def test_weights_are_compared_with_the_first_under_the_same_padding():
    probes = [(w, p) for w in ("cifar10", "cifar10:zeros") for p in ("zeros", "reflect")]
    results = [make_result(padding, weights=weights) for weights, padding in probes]
    for step, result in enumerate(results):
        result.scores[PHOTOS].mae[:] += step / 8
    pixels = make_result("none", weights="none", encoder="pixels")
    control = make_result(weights="random", control="random")
    rows = between_weights([pixels, *results, control])
    assert [(row.probe.padding, row.probe.weights, row.reference) for row in rows] == [
        (padding, "cifar10:zeros", "cifar10") for padding in ("zeros", "reflect")
    ]
    assert [row.mae[0] for row in rows] == pytest.approx([2 / 8, 2 / 8])
    assert between_weights([make_result(), make_result("reflect")]) == []
    assert between_weights([pixels]) == []


def test_selectivity_is_the_score_less_that_of_the_same_readout_on_control_maps():
    controls = ("", "shuffled_map", "smooth_map", "image_shuffled_maps")
    result = make_result(maps=("H", "G"), controls=controls)
    rows = selectivities([result])
    assert [(row.map, row.reference) for row in rows] == [
        (name, control) for name in ("H", "G") for control in controls[1:3]
    ]
    mae = result.scores[PHOTOS].mae.reshape(4, 2, 2, 4)
    assert rows[3].mae[0] == pytest.approx(np.mean(mae[0, 1] - mae[2, 1]))
    assert not any(row.probe.control for row in rows)


LAYERS = [layer_result(padding, spc) for padding, spc in LAYER_SPC.items()]


def by_layer(effects):
    return {(row.kind, row.layer): row.difference for row in effects}


def test_effects_are_differences_between_zeros_and_the_other_mode():
    effects = layer_effects(LAYERS)
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
    assert layer_effects([layer_result("reflect+a=zeros", 0.5), LAYERS[0]]) == []
    assert layer_effects([layer_result(*pair, control="roll") for pair in LAYER_SPC.items()]) == []
    assert layer_effects(LAYERS[:2]) == []
