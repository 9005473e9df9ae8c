"""Weights of an encoder by the text that names them: a file, `imagenet` or `cifar10:MODE`."""

import dataclasses
import hashlib
import os
from typing import Any

from posjax.encoders.statistics import STATISTICS
from posjax.encoders.weights.files import read_checkpoint
from posjax.encoders.weights.hub import PINNED, read_from_hub
from posjax.encoders.weights.readings import read_as
from posjax.encoders.weights.shipped import shipped_path
from posjax.encoders.weights.torch_names import Variables, from_torch

IMAGENET = "imagenet"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder's variables, a SHA-256 that identifies them, and the statistics they expect.

    The digest is that of their file, and of the dict in it that was chosen. `normalize` is
    "imagenet" for the hub's weights, also where a file holds a copy of the pinned ones; or else the
    entry "normalize" of the file's metadata, or None where there is none. `reading` says which
    arrays of the file were taken, where that is not all of them by their names.
    """

    variables: Any
    digest: str
    normalize: str | None
    reading: str = ""

    def statistics(self, source: str) -> str:
        """The statistics that images are normalised by: ImageNet's where nothing is known.

        Raises:
            ValueError: the file names unknown ones; names `source`.
        """
        statistics = self.normalize or IMAGENET
        if statistics not in STATISTICS:
            raise ValueError(
                f"{source} was trained with the normalisation {statistics!r}, which is unknown; "
                f"choose normalize of {', '.join(STATISTICS)}"
            )
        return statistics


def load(name: str, source: str | os.PathLike) -> Variables:
    """The variables of encoder `name`, as `from_torch` gives them.

    `source` is a path as `read_checkpoint` takes it, of a file with PyTorch's names, which may lie
    in any of its dicts and have a prefix, where exactly one reading fits; "imagenet": torchvision's
    first ImageNet weights, as published by timm; or "cifar10:MODE": trained under that padding
    mode, out of posjax.

    Raises:
        FileNotFoundError: there is no such file, or it can't be fetched from the hub.
        ValueError: the weights are not in a readable file, not of this encoder, or not the pinned
            ones; or there are no ImageNet weights for this encoder.
    """
    return load_with_info(name, source).variables


def load_with_info(name: str, source: str | os.PathLike) -> Loaded:
    """As `load`, with what a run has to record about its weights."""
    from_hub = source == IMAGENET
    source = shipped_path(name, str(source)) or source
    checkpoint = read_from_hub(name) if from_hub else read_checkpoint(source)
    is_copy = checkpoint.digest in {pin.sha256 for pin in PINNED.values() if pin}
    normalize = IMAGENET if from_hub or is_copy else checkpoint.metadata.get("normalize")
    try:
        reading = read_as(name, checkpoint)
        variables = from_torch(name, reading.arrays)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    digest = checkpoint.digest
    if checkpoint.chosen:
        digest = hashlib.sha256(f"{digest}#{reading.nest}".encode()).hexdigest()
    return Loaded(variables, digest, normalize, str(reading))


def weights_path(weights: str, name: str, mode: str) -> str:
    """`weights` with `{encoder}` and `{padding}` replaced, and `cifar10` by the path of its file.

    `mode` is that of all layers without an override.

    Raises:
        ValueError: no such file comes with posjax.
    """
    if path := shipped_path(name, weights, mode):
        return str(path)
    return weights.replace("{encoder}", name).replace("{padding}", mode)
