"""Weights that go out by PyTorch's names come back the same."""

import jax
import numpy as np
import pytest
from safetensors import safe_open

from posjax import encoders
from posjax.encoders.weights.export import safetensors_bytes, to_safetensors, to_torch


@pytest.mark.parametrize(("name", "classes"), [("resnet20", 10), ("vgg8_bn_quarter", None)])
def test_what_goes_out_comes_back(name, classes, variables_of, same):
    variables = variables_of(name, classes)
    same(encoders.from_torch(name, to_torch(name, variables)), variables)


def test_names_and_layout_are_pytorchs(variables_of):
    state = to_torch("resnet20", variables_of("resnet20", 10))
    assert state["layer2.0.conv1.weight"].shape == (32, 16, 3, 3)
    assert state["linear.weight"].shape == (10, 64)
    assert {"bn1.running_var", "layer3.2.bn2.bias"} <= set(state)


def test_other_encoders_variables_are_refused(variables_of):
    with pytest.raises(KeyError, match="not the variables of resnet32"):
        to_torch("resnet32", variables_of("resnet20", 10))


def test_a_file_in_half_precision_is_loaded(tmp_path, variables_of):
    variables = variables_of("resnet20", 10)
    path = tmp_path / "w.safetensors"
    path.write_bytes(to_safetensors("resnet20", variables, {"normalize": "cifar10"}, np.float16))
    loaded = encoders.load_with_info("resnet20", path)
    assert loaded.normalize == "cifar10"
    assert path.stat().st_size < 0.6e6
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        loaded.variables,
        variables,
    )
    norm = loaded.variables["batch_stats"]["bn1"]["var"]
    np.testing.assert_array_equal(norm, variables["batch_stats"]["bn1"]["var"])


def test_the_same_content_makes_the_same_file(tmp_path):
    arrays = {"b": np.arange(3, dtype=np.float16), "a": np.eye(2, dtype=np.float32)}
    about = {key: f"{key} ü \n" for key in "hgfedcba"}
    files = {safetensors_bytes(arrays, dict(sorted(about.items()))) for _ in range(4)}
    files.add(safetensors_bytes(dict(reversed(arrays.items())), about))
    assert len(files) == 1
    (tmp_path / "file").write_bytes(*files)
    with safe_open(tmp_path / "file", "numpy") as file:
        assert file.metadata() == about
        for name, array in arrays.items():
            stored = file.get_tensor(name)
            assert stored.dtype == array.dtype
            np.testing.assert_array_equal(stored, array)


def test_metadata_may_hold_any_file_name(tmp_path):
    (tmp_path / "file").write_bytes(safetensors_bytes({"a": np.eye(2)}, {"from": "ph\udcff"}))
    with safe_open(tmp_path / "file", "numpy") as file:
        assert file.metadata() == {"from": "ph\\udcff"}
