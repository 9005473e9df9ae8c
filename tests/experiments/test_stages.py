"""Table 3 as a program: every stage by itself, and all of them."""

from programs import rows, start


def test_every_stage_has_its_rows(tmp_path):
    done = start("stages", tmp_path, "--encoder=vgg8_bn_quarter", "--maps=H")
    assert done.returncode == 0, done.stderr
    table = [row["stages"] for row in rows(tmp_path / "results.csv")]
    assert table == ["f1", "f2", "f3", "f4", "f5", "f1+f2+f3+f4+f5"]
