"""Without padding on equal terms, as a program."""

from programs import rows, start


def test_both_views_run_end_to_end_and_are_compared_with_their_own_zeros(tmp_path):
    flags = ["--encoder=vgg8_bn_quarter", "--maps=H", "--image_size=80", "--solver=ridge"]
    flags += ["--stages=f1"]
    done = start("matched_valid", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    table = {row["padding"]: row for row in rows(tmp_path / "run" / "results.csv")}
    assert [*table] == [
        *("zeros", "valid", "zeros@cropped", "valid@cropped", "zeros@enlarged", "valid@enlarged")
    ]
    # The maps that readouts draw are as large under every view.
    assert {row["mae_constant"] for row in table.values()} == {table["zeros"]["mae_constant"]}
    report = (tmp_path / "run" / "report.html").read_text()
    for reference in ("zeros", "zeros@cropped", "zeros@enlarged"):
        assert f"SPC less that of {reference}<" in report
    again = start("matched_valid", tmp_path / "run", *flags)
    assert again.returncode == 0, again.stderr
