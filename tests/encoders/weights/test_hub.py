"""ImageNet weights from the hub: pinned, verified, and never guessed."""

import hashlib
import json
import re
import socket
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub import constants

from posjax.encoders import load, load_with_info, names
from posjax.encoders.weights.export import to_safetensors
from posjax.encoders.weights.hub import FILE, PINNED, Pin


def into_cache(repo, file, commit):
    """Stores a file as the hub's client does: by its digest, with a link from the snapshot."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    content = file.read_bytes()
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    link = folder / "snapshots" / commit / file.name
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.unlink(missing_ok=True)
    link.symlink_to(blob)
    return link


class Hub:
    """A hub with one file in every repository; lists the requests to it."""

    def __init__(self, folder):
        self.folder, self.commit, self.requests = folder, "a" * 40, []
        self.online = True

    @property
    def file(self):
        return self.folder / self.commit / "model.safetensors"

    def publish(self, variables, commit):
        self.commit = commit
        self.file.parent.mkdir()
        self.file.write_bytes(to_safetensors("resnet18", variables, {}, np.float32))

    def metadata(self, url, timeout):
        assert timeout <= 10
        if not self.online:
            raise ConnectionError("no route to host")
        self.requests.append(url)
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()
        return huggingface_hub.HfFileMetadata(self.commit, digest, url, None, None)

    def download(self, repo, filename, revision):
        self.requests.append((repo, filename, revision))
        return str(into_cache(repo, self.folder / revision / filename, revision))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", hub.metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setitem(PINNED, "resnet18", None)
    return hub


def test_the_first_load_pins_the_version_of_later_loads(hub, tmp_path, variables_of, same):
    variables = variables_of("resnet18")
    hub.publish(variables, "a" * 40)
    loaded = load_with_info("resnet18", "imagenet")
    same(loaded.variables, variables)
    assert loaded.normalize == "imagenet"
    assert loaded.digest == hashlib.sha256(hub.file.read_bytes()).hexdigest()
    record = json.loads((tmp_path / "hub-posjax-pins" / "resnet18.json").read_text())
    assert record == {"revision": "a" * 40, "sha256": loaded.digest}

    hub.publish(jax.tree.map(np.negative, variables), "b" * 40)
    requests = list(hub.requests)
    hub.online = False
    assert load_with_info("resnet18", "imagenet").digest == loaded.digest
    assert hub.requests == requests
    assert requests[1] == ("timm/resnet18.tv_in1k", "model.safetensors", "a" * 40)


def test_a_file_with_another_digest_is_refused_and_not_recorded(
    hub, tmp_path, monkeypatch, variables_of
):
    hub.publish(variables_of("resnet18"), "a" * 40)
    bent = huggingface_hub.HfFileMetadata("a" * 40, "1" * 64, "", None, None)
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: bent)
        with pytest.raises(ValueError, match="expected 1111"):
            load("resnet18", "imagenet")
    monkeypatch.setitem(PINNED, "resnet18", Pin("a" * 40, "0" * 64))
    with pytest.raises(ValueError, match=r"model\.safetensors has the SHA-256 .*, expected 0000"):
        load("resnet18", "imagenet")
    assert not (tmp_path / "hub-posjax-pins").exists()


@pytest.mark.parametrize("pinned", [True, False])
def test_what_the_hubs_client_has_cached_is_taken_without_a_network(
    pinned, hub, monkeypatch, variables_of
):
    hub.online = False
    hub.publish(jax.tree.map(np.negative, variables_of("resnet18")), "a" * 40)
    into_cache("timm/resnet18.tv_in1k", hub.file, "a" * 40)
    other = hashlib.sha256(hub.file.read_bytes()).hexdigest()
    hub.publish(variables_of("resnet18"), "b" * 40)
    digest = hashlib.sha256(hub.file.read_bytes()).hexdigest()
    if pinned:
        # The commit is another one, the content the same.
        monkeypatch.setitem(PINNED, "resnet18", Pin("c" * 40, digest))
        with pytest.raises(FileNotFoundError, match=rf"snapshots, as any .* SHA-256 {digest}"):
            load("resnet18", "imagenet")
    into_cache("timm/resnet18.tv_in1k", hub.file, "b" * 40)
    assert load_with_info("resnet18", "imagenet").digest in (
        {digest} if pinned else {digest, other}
    )
    assert not hub.requests


def test_a_hub_without_a_digest_is_refused(hub, monkeypatch):
    vague = huggingface_hub.HfFileMetadata("a" * 40, "abc", "", None, None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: vague)
    with pytest.raises(ValueError, match="no commit and SHA-256"):
        load("resnet18", "imagenet")


def test_a_copy_of_pinned_weights_has_the_normalisation_of_imagenet(hub, monkeypatch, variables_of):
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
    with pytest.raises(FileNotFoundError) as error:
        load(name, "imagenet")
    revision = PINNED[name].revision if PINNED[name] else "main"
    place = f"models--timm--{name}.tv_in1k"
    for part in (f"timm/{name}.tv_in1k/resolve/{revision}/", place, "pass its path"):
        assert part in str(error.value)
    assert "{padding}" in str(error.value)
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
    assert FILE.endswith(".safetensors")
