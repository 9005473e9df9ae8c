"""Where a training begins: at random weights, or at those of a file."""

import jax
import numpy as np

from posjax import encoders
from posjax.encoders.pretrained import Loaded, Variables
from posjax.runs.frozen import weights_path
from posjax.runs.settings import RANDOM
from posjax.training.settings import Settings


def load_initial(settings: Settings, padding: str) -> Loaded | None:
    """The encoder that a training under this padding mode begins with, or None for a random one.

    Raises:
        ValueError, FileNotFoundError: the weights cannot be read, are of another encoder, or expect
            images that are normalised otherwise.
    """
    if settings.weights == RANDOM:
        return None
    try:
        path = weights_path(settings.weights, settings.encoder, padding)
        loaded = encoders.load_with_info(settings.encoder, path)
    except ValueError as error:
        raise ValueError(f"--weights: {error}") from error
    if loaded.normalize not in (None, settings.normalize):
        raise ValueError(
            f"--normalize={settings.normalize}: {path} was trained with {loaded.normalize}"
        )
    return loaded


def joined(fresh: Variables, encoder: Variables) -> Variables:
    """`fresh` with the layers of `encoder` in the place of its own.

    Raises:
        ValueError: these have another shape, as a head of other classes has.
    """
    found = {kind: {**layers, **encoder.get(kind, {})} for kind, layers in fresh.items()}
    shapes = [jax.tree.map(np.shape, tree["params"]) for tree in (fresh, found)]
    other = [name for name, shape in shapes[0].items() if shapes[1][name] != shape]
    if other or shapes[0].keys() != shapes[1].keys():
        raise ValueError(
            "--weights have other layers than what is trained, such as a head of other classes: "
            + ", ".join(other or sorted(shapes[0].keys() ^ shapes[1].keys()))
        )
    return found
