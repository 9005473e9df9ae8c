"""PyTorch's state dicts become Flax variables: exactly, and strictly or not at all."""

import re

import numpy as np
import pytest

from posjax.encoders import from_torch


@pytest.mark.parametrize(
    ("name", "num_classes"),
    [
        ("vgg8_bn_quarter", None),
        ("resnet18", None),
        ("resnet20", 10),
    ],
)
def test_from_torch_gives_the_variables_of_a_state_dict(
    name, num_classes, variables_of, state_dict_of, same
):
    variables = variables_of(name, num_classes)
    same(from_torch(name, state_dict_of(variables)), variables)


def test_names_are_torchvisions_and_akamasters(variables_of, state_dict_of):
    cifar = state_dict_of(variables_of("resnet20", 10))
    assert {"conv1.weight", "layer1.0.bn2.running_var", "linear.bias"} < cifar.keys()
    imagenet = state_dict_of(variables_of("resnet18"))
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.running_mean": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
    }
    assert {key: imagenet[key].shape for key in shapes} == shapes


def test_heads_of_vgg_are_read_by_torchvisions_names_and_by_timms(
    variables_of, state_dict_of, same
):
    variables = variables_of("vgg8_bn_quarter", 3)
    state = state_dict_of(variables)
    for here, timm in [("classifier.0", "pre_logits.fc1"), ("classifier.3", "pre_logits.fc2")]:
        weight = state.pop(f"{here}.weight")
        size = 7 if here == "classifier.0" else 1
        state[f"{timm}.weight"] = weight.reshape(4096, -1, size, size)
        state[f"{timm}.bias"] = state.pop(f"{here}.bias")
    state["head.fc.weight"] = state.pop("classifier.6.weight")
    state["head.fc.bias"] = state.pop("classifier.6.bias")
    same(from_torch("vgg8_bn_quarter", state), variables)
    with pytest.raises(ValueError, match=r"classifier\.6\.bias is there twice"):
        from_torch("vgg8_bn_quarter", state | {"classifier.6.bias": np.zeros(3)})


def test_one_error_lists_all_that_is_wrong(variables_of, state_dict_of):
    state = state_dict_of(variables_of("resnet20", 10))
    del state["layer1.0.conv1.weight"], state["bn1.running_var"]
    state |= {"fc.weight": np.zeros((10, 64)), "layer9.bias": np.zeros(1)}
    state |= {"conv1.weight": np.zeros((16, 1, 3, 3)), "bn1.bias": np.zeros(())}
    with pytest.raises(ValueError, match="not the weights of resnet20") as error:
        from_torch("resnet20", state)
    lists = dict(re.findall(r"(missing|unknown|of another shape): ([^;]*)", str(error.value)))
    assert set(lists["missing"].split(", ")) == {"bn1.running_var", "layer1.0.conv1.weight"}
    assert set(lists["unknown"].split(", ")) == {"fc.weight", "layer9.bias"}
    assert "conv1.weight (16, 1, 3, 3), expected (16, 3, 3, 3)" in lists["of another shape"]
    assert "bn1.bias (), expected (16,)" in lists["of another shape"]


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        ("resnet20", "linear.weight", "missing: linear.weight$"),
        ("resnet20", "linear.bias", "missing: linear.bias$"),
        ("resnet32", "", r"weights of resnet20, not of resnet32; 60 missing: layer1\.3"),
        ("resnet21", "", "resnet21"),
    ],
)
def test_half_a_head_and_other_encoders_are_refused(
    name, lost, message, variables_of, state_dict_of
):
    state = state_dict_of(variables_of("resnet20", 10))
    state.pop(lost, None)
    with pytest.raises(ValueError, match=message):
        from_torch(name, state)
    with pytest.raises(ValueError, match="missing"):
        from_torch("resnet20", {})
