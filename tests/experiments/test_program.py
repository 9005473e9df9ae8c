"""Every program's own defaults fit together, without flags and with the paper's recipe."""

import pytest
from programs import run

PROGRAMS = (
    *("existence", "layer_ablation", "matched_valid", "padding_ablation", "ppp"),
    *("readout_capacity", "stages"),
)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("flags", [[], ["--images=noise"]], ids=["demonstration", "paper"])
def test_defaults_are_refused_for_nothing_but_images_that_are_not_there(program, flags, tmp_path):
    # Shapes are checked before test images are opened, and nothing is encoded before that.
    done = run(program, tmp_path / "run", *flags, "--test_images=no such folder")
    assert "error: --test_images=no such folder" in done.stderr
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []
