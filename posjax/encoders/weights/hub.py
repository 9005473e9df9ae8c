"""ImageNet weights from Hugging Face's hub, each pinned to a commit and a digest."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

from posjax.encoders.weights.files import Checkpoint, read_checkpoint
from posjax.runtime.files import write_text

FILE = "model.safetensors"
_TIMEOUT = 10.0


@dataclasses.dataclass(frozen=True)
class Pin:
    """A version of a file on the hub: a commit (or a branch, if `sha256` is known) and a digest."""

    revision: str
    sha256: str


# Commits and digests as other projects published them for the same files. What is None is pinned on
# each machine by the first load there, see `_fetch`.
PINNED: dict[str, Pin | None] = {
    **dict.fromkeys(("vgg11_bn", "vgg13", "vgg13_bn", "vgg16_bn", "vgg19", "vgg19_bn")),
    **dict.fromkeys(("resnet101", "resnet152")),
    "vgg11": Pin("main", "682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5"),
    "vgg16": Pin(
        "b8d8aa2dd860af9233c8c67385a8097fd6c35d3f",
        "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
    ),
    "resnet18": Pin(
        "bbd144b3e5565108aad885f145491d11bc6ce807",
        "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    ),
    "resnet34": Pin(
        "1b7b21cca82ff974d341713f777bf740c2db38c4",
        "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    ),
    "resnet50": Pin(
        "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    ),
}


def read_from_hub(name: str) -> Checkpoint:
    """The pinned ImageNet weights of an encoder, out of the hub's cache or from the hub.

    Raises:
        FileNotFoundError: they are not cached and cannot be fetched.
        ValueError: there are none for this encoder, or they are not the pinned ones.
    """
    if name not in PINNED:
        raise ValueError(
            f"there are no ImageNet weights for encoder {name!r}, only for {', '.join(PINNED)}; "
            "pass the path of a file"
        )
    path, pin = _fetch(name)
    checkpoint = read_checkpoint(path, digest=pin.sha256)
    if pin not in (PINNED[name], _recorded(name)):
        _record(name, pin)
    return checkpoint


def _fetch(name: str) -> tuple[str, Pin]:
    """An encoder's file, out of the hub's cache or from the hub, and the version it has to be.

    That is the pinned one, or the one that the first load on this machine recorded, or the newest.
    """
    # It takes a while to import, and most runs never need it.
    import huggingface_hub

    # The hub takes it from one HTTP library or another, by its version.
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    repo = f"timm/{name}.tv_in1k"
    pin = PINNED[name] or _recorded(name)
    if cached := _cached(repo, pin):
        return cached
    url = huggingface_hub.hf_hub_url(repo, FILE, revision=pin.revision if pin else "main")
    try:
        # Asked even for a pinned version: without a network it fails at once, while the download
        # retries for half a minute.
        newest = huggingface_hub.get_hf_file_metadata(url, timeout=_TIMEOUT)
        pin = pin or _pin_of(newest.commit_hash, newest.etag, url)
        return huggingface_hub.hf_hub_download(repo, FILE, revision=pin.revision), pin
    except (OSError, HTTPError) as error:
        raise FileNotFoundError(
            f"the ImageNet weights of {name} were looked for in {_snapshots(repo)}, as any version "
            f"of {FILE}{f' with the SHA-256 {pin.sha256}' if pin else ''}, and at {url} "
            f"({type(error).__name__}: {error}). Fetch {FILE} of {repo} by hand and pass its path. "
            "{padding} in a path stands for the padding mode"
        ) from error


def _cached(repo: str, pin: Pin | None) -> tuple[str, Pin] | None:
    """A file in the cache of the hub's client that has the pinned content, or the newest one."""
    paths = _snapshots(repo).glob(f"*/{FILE}")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        # The client stores large files under their SHA-256; systems without links have copies.
        stored = path.resolve().name
        digest = stored if re.fullmatch("[0-9a-f]{64}", stored) else _digest(path)
        if pin is None or digest == pin.sha256:
            return str(path), pin or Pin(path.parent.name, digest)
    return None


def _snapshots(repo: str) -> Path:
    from huggingface_hub import constants  # as in `_fetch`

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pin_of(commit: str | None, etag: str | None, url: str) -> Pin:
    # For large files the hub's entity tag is the SHA-256 under which they are stored.
    if not commit or not etag or not re.fullmatch("[0-9a-f]{64}", etag):
        raise ValueError(
            f"the hub names no commit and SHA-256 of {url}, but {commit!r} and {etag!r}"
        )
    return Pin(commit, etag)


def _recorded(name: str) -> Pin | None:
    path = _record_path(name)
    return Pin(**json.loads(path.read_text("utf-8"))) if path.exists() else None


def _record(name: str, pin: Pin) -> None:
    path = _record_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(dataclasses.asdict(pin)))


def _record_path(name: str) -> Path:
    from huggingface_hub import constants  # as in `_fetch`

    cache = Path(constants.HF_HUB_CACHE)
    return cache.with_name(f"{cache.name}-posjax-pins") / f"{name}.json"
