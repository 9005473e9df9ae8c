"""One layer at a time as a program."""

from programs import rows, start


def test_every_layer_has_its_rows_and_the_report_tells_what_each_adds(tmp_path):
    flags = ["--encoder=vgg8_bn_quarter", "--maps=H", "--solver=ridge", "--stages=f1"]
    done = start("layer_ablation", tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    table = [row["padding"] for row in rows(tmp_path / "results.csv")]
    layers = [f"features.{i}" for i in (0, 4, 8, 12, 16)]
    assert table == [
        "zeros",
        "reflect",
        *(f"reflect+{layer}=zeros" for layer in layers),
        *(f"zeros+{layer}=reflect" for layer in layers),
    ]
    assert "SPC that padding a layer by zeros adds" in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "figures").glob("layers-*.png"))) == 1
