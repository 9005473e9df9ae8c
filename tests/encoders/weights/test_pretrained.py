"""Pretrained weights: strict, exact conversion; hub weights pinned, verified, and never guessed."""

import hashlib
import json
import re
import socket
import time
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from huggingface_hub import constants

from posjax.encoders.weights import pretrained
from posjax.encoders.factory import create, names
from posjax.encoders.weights.pretrained import PINNED, Pin, from_torch, load, load_with_info


def variables_of(name, num_classes=None):
    """Numbers in the tree that `init` gives."""
    images = np.zeros((1, 64, 64, 3), np.float32)
    tree = jax.eval_shape(create(name, num_classes=num_classes).init, jax.random.key(0), images)
    leaves, structure = jax.tree.flatten(tree)
    numbers = np.random.default_rng(0)
    return structure.unflatten(numbers.random(leaf.shape, np.float32) for leaf in leaves)


def state_dict_of(variables):
    """PyTorch's names and layouts, written out independently of the code under test."""
    state = {}
    for path, array in flatten_dict(variables, sep="/").items():
        collection, *modules, leaf = path.split("/")
        key = ".".join(modules).replace("_", ".")
        if leaf == "kernel":
            weight = (
                np.einsum("hwio->oihw", array) if array.ndim == 4 else np.einsum("io->oi", array)
            )
            state[f"{key}.weight"] = weight
        elif collection == "batch_stats":
            state[f"{key}.running_{leaf}"] = array
            state[f"{key}.num_batches_tracked"] = np.array(7)
        else:
            state[f"{key}.{'weight' if leaf == 'scale' else leaf}"] = array
    return state


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "num_classes"),
    [
        *[("vgg11", 10), ("vgg16_bn", None), ("resnet18", None), ("resnet50", 10)],
        *[("resnet20", None), ("resnet20", 10)],
    ],
)
def test_there_and_back_again(name, num_classes):
    variables = variables_of(name, num_classes)
    same(from_torch(name, state_dict_of(variables)), variables)


def test_names_are_torchvisions_and_akamasters():
    cifar = state_dict_of(variables_of("resnet20", 10))
    assert {"conv1.weight", "layer1.0.bn2.running_var", "linear.bias"} < cifar.keys()
    imagenet = state_dict_of(variables_of("resnet18", 10))
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.running_mean": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "fc.weight": (10, 512),
    }
    assert {key: imagenet[key].shape for key in shapes} == shapes
    vgg = state_dict_of(variables_of("vgg16"))
    assert {key for key in vgg if key.endswith("weight")} == {
        f"features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    }


def test_applied_to_images():
    variables = from_torch("resnet20", state_dict_of(variables_of("resnet20", 10)))
    images = np.zeros((1, 32, 32, 3), np.float32)
    encoder = create("resnet20", num_classes=10)
    assert encoder.apply(variables, images, method="logits").shape == (1, 10)


def test_timm_names_the_head_of_vgg_otherwise():
    variables = variables_of("vgg11", 3)
    state = state_dict_of(variables)
    for here, timm in [("classifier.0", "pre_logits.fc1"), ("classifier.3", "pre_logits.fc2")]:
        weight = state.pop(f"{here}.weight")
        size = 7 if here == "classifier.0" else 1
        state[f"{timm}.weight"] = weight.reshape(4096, -1, size, size)
        state[f"{timm}.bias"] = state.pop(f"{here}.bias")
    state["head.fc.weight"] = state.pop("classifier.6.weight")
    state["head.fc.bias"] = state.pop("classifier.6.bias")
    same(from_torch("vgg11", state), variables)
    with pytest.raises(ValueError, match=r"classifier\.6\.bias is there twice"):
        from_torch("vgg11", state | {"classifier.6.bias": np.zeros(3)})


def test_one_error_lists_all_that_is_wrong():
    state = state_dict_of(variables_of("resnet20", 10))
    del state["layer1.0.conv1.weight"], state["bn1.running_var"]
    state |= {"fc.weight": np.zeros((10, 64)), "layer9.bias": np.zeros(1)}
    state |= {"conv1.weight": np.zeros((16, 1, 3, 3)), "bn1.bias": np.zeros(())}
    with pytest.raises(ValueError, match="not the weights of resnet20") as caught:
        from_torch("resnet20", state)
    lists = dict(re.findall(r"(missing|unknown|of another shape): ([^;]*)", str(caught.value)))
    assert set(lists["missing"].split(", ")) == {"bn1.running_var", "layer1.0.conv1.weight"}
    assert set(lists["unknown"].split(", ")) == {"fc.weight", "layer9.bias"}
    assert "conv1.weight (16, 1, 3, 3), expected (16, 3, 3, 3)" in lists["of another shape"]
    assert "bn1.bias (), expected (16,)" in lists["of another shape"]


@pytest.mark.parametrize("lost", ["linear.weight", "linear.bias"])
def test_half_a_head_is_an_error(lost):
    state = state_dict_of(variables_of("resnet20", 10))
    del state[lost]
    with pytest.raises(ValueError, match=f"missing: {lost}$"):
        from_torch("resnet20", state)


def test_other_depths_and_unknown_encoders_are_refused():
    state = state_dict_of(variables_of("resnet20"))
    with pytest.raises(ValueError, match=r"missing: .*layer1\.3\.conv1\.weight"):
        from_torch("resnet32", state)
    with pytest.raises(ValueError, match="resnet21"):
        from_torch("resnet21", state)
    with pytest.raises(ValueError, match="missing"):
        from_torch("resnet20", {})


# Files


def test_load_from_a_file(tmp_path):
    path = tmp_path / "w.safetensors"
    variables = variables_of("resnet20", 10)
    state = {k: np.ascontiguousarray(v) for k, v in state_dict_of(variables).items()}
    safetensors.numpy.save_file(state, path, metadata={"normalize": "cifar10"})
    same(load("resnet20", path), variables)
    loaded = load_with_info("resnet20", path)
    assert loaded.normalize == "cifar10"
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    np.savez(tmp_path / "w.npz", **{f"module.{k}": v for k, v in state.items()})
    same(load("resnet20", tmp_path / "w.npz"), variables)
    assert load_with_info("resnet20", tmp_path / "w.npz").normalize is None
    with pytest.raises(ValueError, match=r"w\.safetensors: these are not the weights of resnet32"):
        load("resnet32", path)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        load("resnet20", tmp_path / "none.pth")


# The hub


class Hub:
    """A hub with one file in every repository; counts what is asked of it."""

    def __init__(self, folder):
        self.folder, self.commit, self.asked = folder, "a" * 40, []
        self.online = True

    @property
    def file(self):
        return self.folder / self.commit / "model.safetensors"

    def publish(self, variables, commit):
        self.commit = commit
        self.file.parent.mkdir()
        state = {k: np.ascontiguousarray(v) for k, v in state_dict_of(variables).items()}
        safetensors.numpy.save_file(state, self.file)

    def metadata(self, url, timeout):
        assert timeout <= 10
        if not self.online:
            raise ConnectionError("no route to host")
        self.asked.append(url)
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()
        return huggingface_hub.HfFileMetadata(self.commit, digest, url, None, None)

    def download(self, repo, filename, revision):
        self.asked.append((repo, filename, revision))
        return str(self.folder / revision / filename)

    def cached(self, repo, filename, revision):
        path = self.folder / revision / filename
        return str(path) if (repo, filename, revision) in self.asked else None


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", hub.metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", hub.cached)
    monkeypatch.setitem(PINNED, "resnet18", None)
    return hub


def test_the_first_load_pins_what_all_later_ones_use(hub, tmp_path):
    variables = variables_of("resnet18", 5)
    hub.publish(variables, "a" * 40)
    loaded = load_with_info("resnet18", "imagenet")
    same(loaded.variables, variables)
    assert loaded.normalize == "imagenet"
    assert loaded.digest == hashlib.sha256(hub.file.read_bytes()).hexdigest()
    record = json.loads((tmp_path / "hub-posjax-pins" / "resnet18.json").read_text())
    assert record == {"revision": "a" * 40, "sha256": loaded.digest}

    hub.publish(variables_of("resnet18"), "b" * 40)
    asked = list(hub.asked)
    hub.online = False
    assert load_with_info("resnet18", "imagenet").digest == loaded.digest
    assert hub.asked == asked
    assert asked[1] == ("timm/resnet18.tv_in1k", "model.safetensors", "a" * 40)


def test_a_file_with_another_digest_is_refused_and_not_recorded(hub, tmp_path, monkeypatch):
    hub.publish(variables_of("resnet18"), "a" * 40)
    monkeypatch.setitem(PINNED, "resnet18", Pin("a" * 40, "0" * 64))
    with pytest.raises(ValueError, match=r"model\.safetensors has the SHA-256 .*, expected 0000"):
        load("resnet18", "imagenet")
    monkeypatch.setitem(PINNED, "resnet18", None)
    bent = huggingface_hub.HfFileMetadata("a" * 40, "1" * 64, "", None, None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: bent)
    with pytest.raises(ValueError, match="expected 1111"):
        load("resnet18", "imagenet")
    assert not (tmp_path / "hub-posjax-pins").exists()


def test_a_hub_that_gives_no_digest_is_refused(hub, monkeypatch):
    vague = huggingface_hub.HfFileMetadata("a" * 40, "abc", "", None, None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: vague)
    with pytest.raises(ValueError, match="no commit and SHA-256"):
        load("resnet18", "imagenet")


def test_a_copy_of_pinned_weights_knows_its_normalisation(hub, monkeypatch):
    hub.publish(variables_of("resnet18"), "a" * 40)
    digest = hashlib.sha256(hub.file.read_bytes()).hexdigest()
    monkeypatch.setitem(PINNED, "resnet18", Pin("a" * 40, digest))
    assert load_with_info("resnet18", hub.file).normalize == "imagenet"


@pytest.mark.parametrize("name", ["resnet50", "vgg19"])
def test_without_a_network_the_error_says_what_to_fetch(monkeypatch, tmp_path, name):
    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        load(name, "imagenet")
    assert time.monotonic() - start < 10
    revision = PINNED[name].revision if PINNED[name] else "main"
    for part in (f"timm/{name}.tv_in1k/resolve/{revision}/model.safetensors", "--weights=PATH"):
        assert part in str(caught.value)
    assert "{padding}" in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="offline mode"):
        load(name, "imagenet")


def test_there_are_imagenet_weights_for_imagenet_encoders_only():
    with pytest.raises(ValueError, match="no ImageNet weights for encoder 'resnet20'"):
        load("resnet20", "imagenet")
    assert set(PINNED) <= set(names())
    others = {"resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "vgg8_bn_quarter"}
    assert set(names()) - set(PINNED) == others | {"pixels"}


def test_pins_are_digests():
    pins = [pin for pin in PINNED.values() if pin]
    assert all(re.fullmatch("[0-9a-f]{64}", pin.sha256) for pin in pins)
    assert all(re.fullmatch("[0-9a-f]{40}|main", pin.revision) for pin in pins)
    assert Path(pretrained.FILE).suffix == ".safetensors"
