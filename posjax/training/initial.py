"""Where a training begins: at random weights, or at those of a file."""

from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from posjax import encoders
from posjax.encoders import RANDOM, Loaded, Padding, weights_path
from posjax.encoders.weights.torch_names import Variables
from posjax.runtime import progress, write_atomically
from posjax.training.settings import TrainingSettings

RECORD = "initial_weights"


def load_initial(settings: TrainingSettings, padding: Padding) -> Loaded | None:
    """The encoder that a training under this padding mode begins with, or None for a random one.

    Raises:
        ValueError, FileNotFoundError: the weights cannot be read, are of another encoder, or expect
            images that are normalised otherwise.
    """
    if settings.weights == RANDOM:
        return None
    try:
        path = weights_path(settings.weights, settings.encoder, padding.mode)
        loaded = encoders.load_with_info(settings.encoder, path)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"weights: {error}") from error
    if loaded.normalize not in (None, settings.normalize):
        raise ValueError(
            f"weights: {path} was trained with normalize={loaded.normalize}, not "
            f"{settings.normalize}"
        )
    return loaded


def check_initial(
    settings: TrainingSettings,
    padding: Padding,
    module: nn.Module,
    with_encoder: Callable[[Variables, Variables], Variables],
) -> str:
    """The digest of the weights that training `module` begins with, or `random`.

    Prints a note where they do not say how their images were normalised.

    Raises:
        ValueError, FileNotFoundError: it cannot begin with them.
    """
    loaded = load_initial(settings, padding)
    if loaded is None:
        return RANDOM
    if loaded.normalize is None:
        path = weights_path(settings.weights, settings.encoder, padding.mode)
        progress.note(
            f"weights: {path} does not say how its images were normalised: normalize="
            f"{settings.normalize} is taken"
        )
    image = jax.ShapeDtypeStruct((1, settings.image_size, settings.image_size, 3), np.float32)
    with_encoder(jax.eval_shape(module.init, jax.random.key(0), image), loaded.variables)
    return loaded.digest


def with_encoder(network: Variables, encoder: Variables) -> Variables:
    """The variables of a network in which the layers of `encoder` replace those of the same name.

    Raises:
        ValueError: their shapes differ.
    """
    merged = {kind: {**layers, **encoder.get(kind, {})} for kind, layers in network.items()}
    old, new = (jax.tree.map(np.shape, tree["params"]) for tree in (network, merged))
    other = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if other:
        raise ValueError(f"weights have other layers than what is trained: {', '.join(other)}")
    return merged


def record(folder: Path, digest: str) -> None:
    """Writes down which weights the training in a folder begins with, or checks that.

    Raises:
        ValueError: it began with others.
    """
    path = folder / RECORD
    if not path.exists():
        folder.mkdir(exist_ok=True)
        write_atomically(path, f"{digest}\n".encode())
    elif (before := path.read_text().strip()) != digest:
        raise ValueError(
            f"weights: the training in {folder} began with {before}, these are {digest}. Choose "
            "another workdir, or delete that folder."
        )
