"""Labelled images: folders of class folders, and datasets with a label, for training encoders."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Int

from posjax.images.datasets import open_records
from posjax.images.loader import Source
from posjax.images.sources import open_source


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images, the class of each as a number, and the names of the classes."""

    source: Source
    labels: Int[np.ndarray, " n"]
    classes: tuple[str, ...]


def open_labelled(
    spec: str,
    *,
    size: int,
    limit: int | None = None,
    seed: int = 0,
    manual_dir: Path | None = None,
) -> Labelled:
    """Opens a folder of class folders, or `tfds:NAME[:SPLIT]` with a feature `label`.

    The classes of a folder are its subfolders in the order of their names, as in torchvision's
    `ImageFolder`; images may lie deeper. The other arguments are those of `open_source`.

    Raises:
        ValueError: as `open_source`; images that lie in no class folder; a dataset without labels;
            fewer than two classes.
    """
    source = open_source(spec, size=size, limit=limit, seed=seed, manual_dir=manual_dir)
    read = _dataset if spec.startswith("tfds:") else _folder
    labels, classes = read(spec, source, manual_dir)
    if len(classes) < 2:
        raise ValueError(
            f"{spec}: classes are {', '.join(classes) or 'none'}, expected two or more"
        )
    return Labelled(source, labels, classes)


def _folder(
    spec: str, source: Source, _: Path | None
) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    root = Path(spec).expanduser()
    if not root.is_dir():
        raise ValueError(f"{spec} has no labels: expected a folder of class folders, or tfds:NAME")
    classes = tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != "."))
    loose = [key for key in source.keys if "/" not in key]
    if loose:
        raise ValueError(
            f"{spec}: {len(loose)} images lie in no class folder, such as {loose[0]}; expected "
            f"{spec}/CLASS/IMAGE"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[key.split("/")[0]] for key in source.keys], np.int32), classes


def _dataset(
    spec: str, source: Source, manual_dir: Path | None
) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    records, _ = open_records(spec, manual_dir)
    features = dict(records.dataset_info.features.items())
    if not hasattr(features.get("label"), "num_classes"):
        raise ValueError(
            f"{spec}: no feature label of classes; its features are {', '.join(features)}"
        )
    rows = [int(key.rpartition("/")[2]) for key in source.keys]
    labels = np.array([records[row]["label"] for row in rows], np.int32)
    unlabelled = np.flatnonzero((labels < 0) | (labels >= features["label"].num_classes))
    if len(unlabelled):
        raise ValueError(
            f"{spec}: {len(unlabelled)} images have no label, such as "
            f"{source.keys[unlabelled[0]]}: choose another split"
        )
    return labels, tuple(features["label"].names)
