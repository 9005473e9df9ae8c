"""Labelled images: folders of class folders, and datasets with a label, for training encoders."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from posjax.images.datasets import open_records
from posjax.images.folders import files_of, is_system
from posjax.images.loader import Source
from posjax.images.sources import check_stored, open_source


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
    skip_bad_images: bool = False,
    manual_dir: Path | None = None,
) -> Labelled:
    """Opens a folder of class folders, or `tfds:NAME[:SPLIT]` with a feature `label`.

    The classes of a folder are its subfolders in the order of their names, as in torchvision's
    `ImageFolder`; images may lie deeper. The other arguments are those of `open_source`.

    Raises:
        ValueError: as `open_source`; images that lie in no class folder; class folders without an
            image, as torchvision refuses them; a dataset without labels; fewer than two classes.
    """
    check_stored(spec)
    source = open_source(
        spec, size=size, limit=limit, skip_bad_images=skip_bad_images, manual_dir=manual_dir
    )
    if spec.startswith("tfds:"):
        labelled = _dataset(spec, source, manual_dir)
    else:
        labelled = _folder(spec, source)
    if len(labelled.classes) < 2:
        names = ", ".join(labelled.classes) or "none"
        raise ValueError(f"{spec}: classes are {names}, expected two or more")
    return labelled


def _folder(spec: str, source: Source) -> Labelled:
    root = Path(spec).expanduser()
    loose = [key for key in source.keys if "/" not in key]
    if loose:
        raise ValueError(
            f"{spec}: {len(loose)} images lie in no class folder, such as {loose[0]}; expected "
            f"{spec}/CLASS/IMAGE"
        )
    folders = [path.name for path in root.iterdir() if path.is_dir() and not is_system(path.name)]
    classes = sorted(folders)
    bad = {name for name, _ in source.skipped}
    # All files, of which the source may be a sample.
    names = {path.relative_to(root).as_posix() for path in files_of(root)} - bad
    filled = {name.split("/")[0] for name in names}
    empty = [name for name in classes if name not in filled]
    if empty:
        raise ValueError(
            f"{spec}: {len(empty)} of the {len(classes)} class folders have no image: "
            f"{', '.join(empty[:10])}"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[key.split("/")[0]] for key in source.keys], np.int32)
    return Labelled(source, labels, tuple(classes))


def _dataset(spec: str, source: Source, manual_dir: Path | None) -> Labelled:
    records = open_records(spec, manual_dir)
    label: Any = records.features.get("label")
    if not hasattr(label, "num_classes"):
        names = ", ".join(records.features)
        raise ValueError(f"{spec}: no feature label of classes; its features are {names}")
    labels = np.array([records[key]["label"] for key in source.keys])
    unlabelled = np.flatnonzero((labels < 0) | (labels >= label.num_classes))
    if len(unlabelled):
        raise ValueError(
            f"{spec}: {len(unlabelled)} images have no label, such as "
            f"{source.keys[unlabelled[0]]}: choose another split"
        )
    return Labelled(source, labels.astype(np.int32), tuple(label.names))
