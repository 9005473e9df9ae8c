"""Table 1 as a program: pixels beside encoders, images with and without content."""

from programs import rows, start


def test_its_rows_are_those_of_the_table(tmp_path):
    done = start("existence", tmp_path, "--encoder=pixels,vgg8_bn_quarter", "--maps=H,VS")
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "results.csv")
    assert [(r["encoder"], r["map"], r["test_images"]) for r in table] == [
        (encoder, name, images)
        for encoder in ("pixels", "vgg8_bn_quarter")
        for images in ("dead_leaves", "black", "white", "noise")
        for name in ("H", "VS")
    ]
    assert {(r["padding"], r["weights"]) for r in table} == {("none", "none"), ("zeros", "random")}
    report = (tmp_path / "report.html").read_text()
    # The paper's SPC of VS on a white image, of PosENet alone.
    assert ".081" in report
    assert "Islam, Jia and Bruce" in report
