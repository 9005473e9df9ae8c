"""Runs with moved crops: what cannot run is refused before anything is written."""

import pytest

from posjax.training.saliency.crop_shift import ShiftSettings, run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": ()}, "^networks needs one or more"),
        ({"step": 0}, "^step must be 1 or more, found 0"),
        ({"num_train": -1}, "^num_train must be 0 or more, found -1"),
        ({"num_test": 0}, "^num_test must be 1 or more, found 0"),
    ],
)
def test_settings_that_cannot_run_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        ShiftSettings(**{"networks": ("nowhere",), "images": "nowhere"} | changes)


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", r"^networks=.*missing: no such file"), ("other", r"other is no safetensors file")],
)
def test_a_file_that_is_no_network_is_refused(tmp_path, name, message):
    (tmp_path / "other").write_bytes(b"nothing")
    workdir = tmp_path / "run"
    settings = ShiftSettings(networks=(f"{tmp_path}/{name}",), images="nowhere", workdir=workdir)
    with pytest.raises(ValueError, match=message):
        run(settings)
    assert not workdir.exists()


@pytest.mark.parametrize("pattern", ["run[1]/a*?/other", "run[1]/*/other"])
def test_signs_in_names_that_are_there_are_letters_and_others_a_pattern(tmp_path, pattern):
    for folder in ("run[1]/a*?", "run1/abc"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "other").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"run\[1\]/a\*\?/other is no safetensors file"):
        run(ShiftSettings(networks=(f"{tmp_path}/{pattern}",), images="nowhere"))
