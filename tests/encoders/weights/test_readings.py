"""The arrays of a checkpoint that are an encoder's are found in any dict, under any prefix."""

import dataclasses
import pickle

import numpy as np
import pytest

from posjax import encoders
from posjax.encoders.weights import load_with_info
from posjax.encoders.weights.files import Checkpoint
from posjax.encoders.weights.readings import read_as

NAME = "vgg8_bn_quarter"


@pytest.fixture(scope="module")
def state(variables_of, state_dict_of):
    return state_dict_of(variables_of(NAME, None))


def under(prefix, state):
    return {f"{prefix}{key}": array for key, array in state.items()}


def checkpoint(**nests):
    nests = {name.removeprefix("root"): arrays for name, arrays in nests.items()}
    first = next(iter(nests))
    return Checkpoint(nests[first], {}, "00", nests, first)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "model.",
        "net.",
        "backbone.",
        "encoder.",
        "model._orig_mod.",
        "a.b.",
    ],
)
def test_a_prefix_of_all_names_is_recognised_and_said(prefix, state):
    rest = {"n_averaged": np.zeros(()), "criterion.weight": np.ones(3)}
    reading = read_as(NAME, checkpoint(root=under(prefix, state) | rest))
    assert reading.arrays.keys() == state.keys()
    assert str(reading) == (
        f"with '{prefix}' in front of their names, without n_averaged, criterion.weight"
    )


def test_the_one_dict_that_fits_is_taken(state):
    other = checkpoint(root={"loss": np.zeros(())}, optimizer={"x": np.ones(2)}, weights=state)
    assert str(read_as(NAME, other)) == "of 'weights'"


def test_raw_weights_are_taken_before_averaged_ones_unless_these_are_chosen(state):
    lightning = checkpoint(state_dict=under("model.", state) | under("ema_model.", state))
    assert "with 'model.'" in str(read_as(NAME, lightning))
    both = checkpoint(model_ema=under("module.", state), model=state)
    assert str(read_as(NAME, both)) == "of 'model'"
    assert "of 'model_ema'" in str(read_as(NAME, dataclasses.replace(both, chosen=True)))


def test_several_dicts_that_fit_are_refused_with_their_names(state):
    with pytest.raises(ValueError, match="several of its parts"):
        read_as(NAME, checkpoint(semantic_net=state, schema=state))
    both = checkpoint(first=state, second=state)
    with pytest.raises(ValueError, match=r"several of its parts fit .* as FILE#first, FILE#second"):
        read_as(NAME, both)


def test_one_of_several_prefixes_that_fit_is_chosen_by_its_name(state, tmp_path, same):
    keys = {key: array + 1 for key, array in state.items()}
    np.savez(tmp_path / "w.npz", **under("encoder_q.", state), **under("encoder_k.", keys))
    with pytest.raises(ValueError, match=r"choose one as FILE#encoder_q, FILE#encoder_k$"):
        encoders.load(NAME, tmp_path / "w.npz")
    for name, arrays in (("encoder_q", state), ("encoder_k", keys)):
        chosen = encoders.load(NAME, f"{tmp_path}/w.npz#{name}")
        same(chosen, encoders.from_torch(NAME, arrays))
    moco = checkpoint(state_dict=under("encoder_q.", state) | under("encoder_k.", keys))
    with pytest.raises(ValueError, match=r"FILE#state_dict\.encoder_q, FILE#state_dict\.encoder_k"):
        read_as(NAME, moco)


@pytest.mark.parametrize(
    "wrapper", ["module._orig_mod.", "_orig_mod.module.", "module.module._orig_mod."]
)
def test_wrappers_in_any_order_are_no_prefix(wrapper, state, tmp_path):
    np.savez(tmp_path / "w.npz", n_averaged=np.zeros(()), **under(wrapper, state))
    assert load_with_info(NAME, tmp_path / "w.npz").reading == ""


def test_types_that_are_not_read_are_left_out_beside_the_weights_and_refused_among_them(
    state, tmp_path
):
    others = {"text": np.array("words"), "complex": np.ones(2, complex)}
    np.savez(tmp_path / "w.npz", **under("net.", state), **others)
    assert "without text, complex" in load_with_info(NAME, tmp_path / "w.npz").reading
    first = next(iter(state))
    np.savez(tmp_path / "w.npz", **state | {first: state[first].astype(complex)})
    with pytest.raises(ValueError, match=f"{first} is of type complex128, expected float32"):
        encoders.load(NAME, tmp_path / "w.npz")


def test_what_does_not_fit_is_refused_with_ten_names_of_each_kind_and_what_is_likely(state):
    with pytest.raises(ValueError, match="these are the weights of vgg8_bn_quarter, not of vgg11"):
        read_as("vgg11_bn", checkpoint(root=state))
    with pytest.raises(ValueError, match="no layer of vgg8_bn_quarter is among them") as e:
        read_as(NAME, checkpoint(root={f"x{i}": np.ones(1) for i in range(99)}))
    assert "99 unknown: x0" in str(e.value)
    assert str(e.value).count("x") < 30


def test_values_that_are_not_finite_are_told_of_the_weights(state, tmp_path):
    key = next(iter(state))
    broken = state | {key: np.full_like(state[key], np.nan)}
    np.savez(tmp_path / "w.npz", **broken)
    with pytest.raises(ValueError, match=rf"w\.npz: .* values of {key} are not finite"):
        encoders.load(NAME, tmp_path / "w.npz")


def test_a_dict_of_a_file_is_chosen_by_its_name(state, tmp_path):
    for name in ("w.npz", "w#1.npz"):
        np.savez(tmp_path / name, **state)
        assert load_with_info(NAME, tmp_path / name).reading == ""
    whole, chosen = (load_with_info(NAME, f"{tmp_path}/w.npz{nest}") for nest in ("", "#"))
    assert whole.digest != chosen.digest  # two dicts of one file are not one encoder
    with pytest.raises(ValueError, match=r"w\.npz has no 'ema'; its dicts of arrays are the file"):
        encoders.read_checkpoint(f"{tmp_path}/w.npz#ema")


@pytest.mark.parametrize(
    "harmless",
    [{1, 2}, {("a", 1): 2}, {"n": b"bytes"}, {"n": [{}, ()]}],
    ids=["set", "tuple key", "bytes", "list"],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_plain_containers_beside_the_tensors_are_read(harmless, protocol):
    import io

    from posjax.encoders.weights.torch_pickle import unpickle

    content = pickle.dumps({"harmless": harmless}, protocol)
    assert unpickle(io.BytesIO(content))[0] == {"harmless": harmless}
