"""Where a training begins: at random weights, or at those of a file."""

import jax
import jax.numpy as jnp
import numpy as np

from posjax import encoders
from posjax.encoders import RANDOM, Loaded, weights_path
from posjax.encoders.weights.export import HEADS
from posjax.probes.trainer import Variables
from posjax.runtime import drawing, progress, random_key, write_text
from posjax.training.task import Job, naming


def initial_variables(job: Job) -> Variables:
    """The variables that the network begins with; raises what `check_initial` raises."""
    # No padding mode has parameters: all draw the same.
    with drawing():
        random = jax.jit(job.objective.module.init)(random_key(job.seed), _image(job))
    loaded = load_initial(job)
    return with_encoder(random, loaded.variables) if loaded else random


def check_initial(job: Job) -> str:
    """The digest of the weights that the network begins with, or `random`.

    Prints a note where they do not say how their images were normalised.

    Raises:
        ValueError, FileNotFoundError: as `load_initial`; a layer has another shape.
    """
    loaded = load_initial(job)
    if loaded is None:
        return RANDOM
    if loaded.reading:
        progress.note(f"weights: {_path(job)}: the weights are those {loaded.reading}")
    if loaded.normalize is None:
        progress.note(
            f"weights: {_path(job)} does not say how its images were normalised: normalize="
            f"{job.settings.normalize} is taken"
        )
    shapes = jax.eval_shape(job.objective.module.init, jax.random.key(0), _image(job))
    with_encoder(shapes, loaded.variables)
    return loaded.digest


def load_initial(job: Job) -> Loaded | None:
    """The encoder that the network begins with, or None for a random one.

    Raises:
        ValueError, FileNotFoundError: the weights cannot be read, are of another encoder, or expect
            images that are normalised otherwise.
    """
    settings = job.settings
    if settings.weights == RANDOM:
        return None
    with naming("weights"):
        loaded = encoders.load_with_info(settings.encoder, _path(job))
        if loaded.normalize not in (None, settings.normalize):
            raise ValueError(
                f"{_path(job)} was trained with normalize={loaded.normalize}, not "
                f"{settings.normalize}"
            )
    return loaded


def with_encoder(network: Variables, encoder: Variables) -> Variables:
    """The variables of a network in which the layers of `encoder` replace those of the same name.

    A dense network has its own under `encoder`, without a head: that of the weights is left out. A
    head of other classes is left out with a note, and one that they lack stays.

    Raises:
        ValueError: another layer is missing on either side, or has another shape.
    """
    if "encoder" in network["params"]:
        inner = with_encoder({kind: tree["encoder"] for kind, tree in network.items()}, encoder)
        return {kind: {**tree, "encoder": inner[kind]} for kind, tree in network.items()}
    old, new = (jax.tree.map(np.shape, tree["params"]) for tree in (network, encoder))
    common = old.keys() & new.keys()
    differing = {name for name in common if old[name] != new[name]}
    if other := sorted((differing | (old.keys() ^ new.keys())) - HEADS):
        raise ValueError(f"weights have other layers than what is trained: {', '.join(other)}")
    for head in differing:
        progress.note(
            f"the weights are of {new[head]['bias'][0]} classes, the images have "
            f"{old[head]['bias'][0]}: their head is left out"
        )
    taken = common - differing
    return {
        kind: layers | {name: layer for name, layer in encoder[kind].items() if name in taken}
        for kind, layers in network.items()
    }


def record(job: Job) -> None:
    """Writes down which weights the training begins with, or checks that.

    Raises:
        ValueError: it began with others.
    """
    path = job.folder / "initial_weights"
    if not path.exists():
        job.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{job.initial_weights}\n")
    elif (before := path.read_text("utf-8").strip()) != job.initial_weights:
        raise ValueError(
            f"weights: the training in {job.folder} began with {before}, these are "
            f"{job.initial_weights}. Choose another workdir, or delete that folder."
        )


def _path(job: Job) -> str:
    return weights_path(job.settings.weights, job.settings.encoder, job.padding.mode)


def _image(job: Job) -> jax.Array:
    return jnp.zeros((1, job.settings.image_size, job.settings.image_size, 3), jnp.float32)
