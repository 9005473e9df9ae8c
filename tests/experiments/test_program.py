"""Every program's own defaults fit together, without flags and with the paper's recipe."""

import re

import pytest
from programs import run

PROGRAMS = (
    *("existence", "layer_ablation", "matched_valid", "padding_ablation", "ppp"),
    *("readout_capacity", "stages"),
)
MASKS = ("masks", "test_masks")


@pytest.mark.parametrize("program", [*PROGRAMS, "train_encoder", "train_dense"])
def test_the_advice_of_an_error_is_a_flag_of_the_program(program, tmp_path):
    images = tmp_path / "images" / "red"
    images.mkdir(parents=True)
    (images / "1.png").write_bytes(b"nothing")
    flags = [f"--{name}={tmp_path / 'images'}" for name in ("images", "test_images")]
    flags += [f"--{name}={tmp_path / 'images'}" for name in MASKS if program == "train_dense"]
    done = run(program, tmp_path / "run", *flags)
    assert "red/1.png: no image" in done.stderr
    (advice,) = re.findall(r"--skip_bad_images\S*", done.stderr)
    assert (
        "no image is left, 1 of the files" in run(program, tmp_path / "run", *flags, advice).stderr
    )


@pytest.mark.parametrize("program", ["train_encoder", "train_dense"])
def test_sources_that_a_program_refuses_are_not_recommended(program, tmp_path):
    flags = [
        "--test_images=nowhere",
        *(f"--{n}=nowhere" for n in MASKS if program == "train_dense"),
    ]
    for images, problem in (("nowhere", "no folder 'nowhere'"), ("noise", "noise is generated")):
        error = run(program, tmp_path / "run", f"--images={images}", *flags).stderr
        assert f"error: --images: {problem}" in error
        assert "expected a folder, or tfds:NAME[:SPLIT]" in error
        assert "dead_leaves" not in error


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("flags", [[], ["--images=noise"]], ids=["demonstration", "paper"])
def test_defaults_are_refused_for_nothing_but_images_that_are_not_there(program, flags, tmp_path):
    # Shapes are checked before test images are opened, and nothing is encoded before that.
    done = run(program, tmp_path / "run", *flags, "--test_images=no such folder")
    assert "error: --test_images=no such folder" in done.stderr
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []
