"""Trained saliency networks as files."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load

from posjax.encoders import Padding
from posjax.encoders.weights.export import safetensors_bytes
from posjax.probes.trainer import Variables
from posjax.training.saliency.network import SaliencyNetwork

NETWORK = "network.safetensors"


@dataclasses.dataclass(frozen=True)
class SavedNetwork:
    """A trained network and what its file says of it, see `Job.metadata`."""

    path: Path
    module: SaliencyNetwork
    variables: Variables
    about: Mapping[str, str]

    @property
    def title(self) -> str:
        """For people."""
        return "{encoder} {padding} seed {seed}".format(**self.about)


def network_bytes(variables: Variables, about: Mapping[str, str]) -> bytes:
    """The content of a file that `load_network` reads."""
    flat = {key: np.asarray(array) for key, array in flatten_dict(variables, sep="/").items()}
    return safetensors_bytes(flat, {"network": "saliency", **about})


def load_network(path: Path) -> SavedNetwork:
    """A trained network.

    Raises:
        ValueError, FileNotFoundError: no such file, or it is not one that `train_dense` left.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        # By its content: the library opens no file whose name is no UTF-8.
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = header.get("__metadata__", {})
        flat = {tuple(key.split("/")): array for key, array in load(content).items()}
    except Exception as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    if about.get("network") != "saliency":
        raise ValueError(f"{path} is no {NETWORK} of experiments.train_dense")
    module = SaliencyNetwork(about["encoder"], Padding.parse(about["padding"]))
    return SavedNetwork(path, module, unflatten_dict(flat), about)
