"""Files of results: read as they were written, refused where they are damaged; results.csv."""

import csv
import dataclasses

import numpy as np
import pytest
from synthetic import make_result, make_ridge_result

from posjax.results import load_result, save_result, to_records, write_csv

COLUMNS = (
    "encoder,weights,padding,stages,map,depth,kernel_size,readout_padding,solver,seed,"
    "test_images,n_images,spc,spc_low,spc_high,spc_undefined,mae,mae_low,mae_high,"
    "mae_constant,skill"
)
(RECORD,) = to_records(make_result(seeds=(7,)))


def write_rows(path, *records):
    write_csv(path, records)
    return list(csv.DictReader(path.read_text().splitlines()))


def test_csv_has_six_digits_and_empty_cells_for_what_is_undefined(tmp_path):
    path = tmp_path / "results.csv"
    first = dataclasses.replace(RECORD, encoder="a,b", spc=1234567.89, mae=0.123456789)
    second = dataclasses.replace(RECORD, spc=None, spc_low=None, mae=1e-9, seed=None)
    one, two = write_rows(path, first, second)
    assert path.read_text().splitlines()[0] == COLUMNS
    assert [one[name] for name in ("encoder", "seed", "mae", "spc")] == [
        *("a,b", "7", "0.123457", "1.23457e+06")
    ]
    assert [two[name] for name in ("seed", "mae", "spc", "spc_low")] == ["", "1e-09", "", ""]


def test_csv_has_a_column_of_controls_where_there_are_any(tmp_path):
    path = tmp_path / "results.csv"
    rows = write_rows(path, RECORD, dataclasses.replace(RECORD, control="roll"))
    assert path.read_text().splitlines()[0] == f"{COLUMNS},control"
    assert [row["control"] for row in rows] == ["", "roll"]
    write_csv(path, [])
    assert path.read_text() == COLUMNS + "\n"


def assert_same(read, written):
    assert type(read) is type(written)
    if dataclasses.is_dataclass(written):
        assert_same(vars(read), vars(written))
    elif isinstance(written, dict):
        assert list(read) == list(written)
        for key in written:
            assert_same(read[key], written[key])
    elif isinstance(written, np.ndarray):
        assert read.dtype == written.dtype
        np.testing.assert_array_equal(read, written)
    else:
        assert read == written


@pytest.mark.parametrize(
    "result",
    [make_result(maps=("H", "V"), sets={"noise": 6, "black": 1}), make_ridge_result()],
    ids=["sgd", "ridge"],
)
def test_a_result_is_read_as_it_was_written(tmp_path, result):
    save_result(tmp_path / "group.npz", result)
    assert_same(load_result(tmp_path / "group.npz"), result)
    assert [path.name for path in tmp_path.iterdir()] == ["group.npz"]


def truncate(content, part):
    return content[: int(part * len(content))]


def flip(content, part):
    start = int(part * len(content))
    flipped = bytes(byte ^ 0xFF for byte in content[start : start + 60])
    return content[:start] + flipped + content[start + 60 :]


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        *[(truncate, part) for part in (0, 0.001, 0.2, 0.5, 0.8, 0.99, 0.999)],
        *[(flip, part) for part in (0.1, 0.3, 0.5, 0.7, 0.85)],
    ],
)
def test_a_damaged_result_is_refused_by_its_name(tmp_path, damage, part):
    path = tmp_path / "group.npz"
    save_result(path, make_result())
    path.write_bytes(damage(path.read_bytes(), part))
    with pytest.raises(ValueError, match=r"group\.npz is not a result.*delete it"):
        load_result(path)


def test_other_files_are_refused_by_their_name(tmp_path):
    path = tmp_path / "group.npz"
    np.savez(path, about='{"probe": {"another": 1}, "test_images": []}', losses=np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"group\.npz"):
        load_result(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"group\.npz"):
        load_result(path)
