"""Table 1 as a program: pixels beside encoders, five maps, images with and without content."""

from programs import rows, start


def test_its_rows_are_those_of_the_table(tmp_path):
    done = start("existence", tmp_path, "--encoder=pixels,vgg16")
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "results.csv")
    assert [(r["encoder"], r["map"], r["test_images"]) for r in found] == [
        (encoder, name, images)
        for encoder in ("pixels", "vgg16")
        for images in ("dead_leaves", "black", "white", "noise")
        for name in ("H", "V", "G", "HS", "VS")
    ]
    assert {(r["padding"], r["weights"]) for r in found} == {("none", "none"), ("zeros", "random")}
    report = (tmp_path / "report.html").read_text()
    # The paper's SPC of H on a white image, of PosENet alone and of VGG.
    assert ".873" in report
    assert "Islam, Jia and Bruce" in report
