"""The table on the terminal: plain, narrow, and with all means."""

from synthetic import PHOTOS, make_result, make_ridge_result

from posjax.layers import MODES
from posjax.probes import MAPS
from posjax.report import text_table
from posjax.report.formatting import estimate
from posjax.results import summarise


def test_it_is_narrow_and_holds_the_means():
    results = [make_result(padding, MAPS, sets={PHOTOS: 3, "black": 1}) for padding in MODES]
    table = text_table(results)
    assert max(map(len, table.splitlines())) <= 112
    assert f"Test images {PHOTOS}: 2 seeds and 3 images" in table
    for row in summarise(results):
        assert estimate(row.spc, 2, 2).replace("−", "-") in table
        assert estimate(row.mae, 2, 2) in table
    lines = [line.split() for line in table.splitlines()]
    assert lines.count(["padding", "H", "V", "G", "HS", "VS"]) >= 2  # of MAE
    assert ["circular", *["undefined"] * 3] in lines
    assert "MAE (best constant: H .26, V .26, G .20, HS .32, VS .32)" in table
    assert "seeds and images; [low, high]: 95 % bootstrap interval" in table


def test_controls_follow_the_results_and_have_no_mae():
    table = text_table([make_result(controls=("shuffled_map", "")), make_result("valid")])
    spc, mae = table.split("MAE")
    assert [line.split()[0] for line in spc.splitlines()[3:] if line] == [
        *("padding", "zeros", "valid", "zeros")
    ]
    assert "shuffled_map" not in mae


def test_closed_forms_speak_of_no_seeds_and_no_results_are_said():
    assert "seed" not in text_table([make_ridge_result()])
    assert text_table([]) == "no results"
