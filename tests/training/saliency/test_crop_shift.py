"""Crops: what follows the content moves by nothing, and what follows the frame by all of it."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.training.saliency.crop_shift import DIRECTIONS, ShiftSettings, _common, follow, run

STEP, SIZE = 4, 24


def spot(row, column, side=SIZE):
    rows, columns = np.mgrid[:side, :side]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4)[None].astype(np.float32)


def followed(still, moved, direction):
    down, right = direction
    pair = (_common(still, down, right, STEP), _common(moved, -down, -right, STEP))
    assert pair[0].shape == pair[1].shape
    return {name: float(found[0]) / STEP for name, found in follow(*pair, direction).items()}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_prediction_of_the_content_stays_and_one_of_the_frame_goes_with_it(direction):
    middle = SIZE // 2
    still = jnp.asarray(spot(middle, middle))
    # In the crop that moved down, the same content lies further up.
    content = jnp.asarray(spot(*np.subtract(middle, np.multiply(direction, STEP))))
    for name, value in followed(still, content, direction).items():
        assert value == pytest.approx(0, abs=1e-4), name
    for name, value in followed(still, still, direction).items():
        assert value == pytest.approx(1, abs=0.02), name


def test_what_both_crops_show_cuts_the_mass_of_a_broad_prediction_off():
    broad = jnp.asarray(0.2 + 0.8 * spot(12, 12) ** 0.1)
    found = followed(broad, broad, (1, 0))
    assert found["peak"] == pytest.approx(1)
    assert 0.05 < found["mass"] < 0.9


@pytest.mark.parametrize("highest", [0.01, 0.49])
def test_where_nothing_is_salient_noise_has_no_place(highest):
    noise = jnp.asarray(highest * spot(3, 20))
    disc = jnp.asarray(spot(12, 12))
    for still, moved in ((noise, disc), (disc, noise), (noise, noise)):
        assert np.isnan(list(followed(still, moved, (0, 1)).values())).all()


def test_a_flat_prediction_has_no_place():
    flat = jnp.full((1, SIZE, SIZE), 0.9)
    assert np.isnan(list(followed(flat, flat, (0, 1)).values())).all()
    assert np.isnan(list(followed(flat, jnp.asarray(spot(3, 3)), (0, 1)).values())).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": ()}, "--networks is needed"),
        ({"step": 0}, "--step must be 1 or more, found 0"),
        ({"num_train": -1}, "--num_train must be 0 or more, found -1"),
        ({"num_test": 0}, "--num_test must be 1 or more, found 0"),
    ],
)
def test_what_cannot_run_is_refused_by_its_flag(changes, message):
    good = {"networks": (Path("nowhere"),), "images": "nowhere", "workdir": Path("nowhere")}
    with pytest.raises(ValueError, match=message):
        ShiftSettings(**good | changes)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    settings = {"images": "nowhere", "workdir": tmp_path / "run"}
    missing, other = tmp_path / "missing.safetensors", tmp_path / "other.safetensors"
    other.write_bytes(b"nothing")
    with pytest.raises(FileNotFoundError, match=f"no file {missing}"):
        run(ShiftSettings(networks=(missing,), **settings))
    with pytest.raises(ValueError, match=r"other\.safetensors is no safetensors file"):
        run(ShiftSettings(networks=(other,), **settings))
    assert not (tmp_path / "run").exists()
