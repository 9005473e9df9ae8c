"""Table 2 as a program: depth and kernel size, one at a time."""

from programs import rows, start


def test_depths_and_kernel_sizes_vary_one_at_a_time(tmp_path):
    done = start("readout_capacity", tmp_path, "--encoder=pixels", "--maps=H")
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "results.csv")
    shapes = [("1", "3"), ("1", "1"), ("1", "5"), ("1", "7"), ("2", "3"), ("3", "3")]
    assert [(r["encoder"], r["depth"], r["kernel_size"]) for r in table] == [
        ("pixels", *shape) for shape in shapes
    ]
