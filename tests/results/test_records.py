"""Records: one row for each readout on each set of test images."""

import numpy as np
import pytest
from synthetic import make_result, make_ridge_result

from posjax.probes import constant_mae, position_map
from posjax.results import to_records


def test_every_readout_and_set_of_test_images_has_a_row():
    result = make_result(maps=("H", "V"), sets={"noise": 6, "black": 1})
    rows = to_records(result)
    assert [(r.test_images, r.map, r.seed, r.n_images, r.spc_undefined) for r in rows] == [
        *[("noise", "H", 0, 6, 0), ("noise", "H", 1, 6, 0)],
        *[("noise", "V", 0, 6, 0), ("noise", "V", 1, 6, 1)],
        *[("black", "H", 0, 1, 0), ("black", "H", 1, 1, 0)],
        *[("black", "V", 0, 1, 0), ("black", "V", 1, 1, 1)],
    ]
    scores = result.scores["noise"]
    for row, spc, mae in zip(rows, scores.spc, scores.mae, strict=False):
        assert vars(result.probe).items() <= vars(row).items()
        assert row.mae_constant == float(constant_mae(position_map(row.map, 28)))
        assert row.skill == 1 - row.mae / row.mae_constant
        assert row.mae == pytest.approx(mae.mean())
        assert row.spc == pytest.approx(np.nanmean(spc))
        assert row.mae_low < row.mae < row.mae_high
        assert row.spc_low < row.spc < row.spc_high
    assert (rows[-1].spc, rows[-1].spc_low, rows[-1].spc_high) == (None, None, None)


def test_a_control_task_names_the_control_and_a_closed_form_has_no_seed():
    rows = to_records(make_result(controls=("", "shuffled_map"), seeds=(0,)))
    assert [row.control for row in rows] == ["", "shuffled_map"]
    assert {row.seed for row in to_records(make_ridge_result())} == {None}
