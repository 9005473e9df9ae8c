"""Training on images with masks: what a run of it opens, leaves and tells."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any, ClassVar

import flax
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open

from posjax.encoders.export import safetensors_bytes, to_safetensors
from posjax.images import Masked, open_masked
from posjax.images.masks import HALF
from posjax.training.augment import central
from posjax.training.initial import with_encoder
from posjax.training.run import WEIGHTS, Examples, Finished, Kind, Opened
from posjax.training.saliency_network import Saliency, SaliencyNetwork, saliency_measures
from posjax.training.saliency_table import MEASURES, write_table
from posjax.training.settings import Settings

NETWORK = "network.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseSettings(Settings):
    """What a run on masks trains: images and masks of one name each.

    Without `test_images`, the images behind the first `num_train`, in the order of their names, are
    those to test on.
    """

    masks: str | None = None
    test_images: str | None = None
    test_masks: str | None = None

    with_head: ClassVar = False

    def __post_init__(self):
        """Raises ValueError for what cannot run; names the flag."""
        super().__post_init__()
        if self.test_masks and self.test_images is None:
            raise ValueError("--test_masks needs --test_images")
        if self.test_images is None and self.num_train is None:
            raise ValueError(
                "--num_train is needed without --test_images: the images behind so many are those "
                "to test on"
            )


def load_network(path: Path) -> tuple[SaliencyNetwork, Any, dict[str, str]]:
    """A trained network, its variables, and what its file says of it.

    Raises:
        ValueError, FileNotFoundError: no such file, or it is none of `train_dense`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            flat = {tuple(key.split("/")): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    if about.get("network") != "saliency":
        raise ValueError(f"{path} is no {NETWORK} of experiments.train_dense")
    network = SaliencyNetwork(about["encoder"], about["padding"])
    return network, flax.traverse_util.unflatten_dict(flat), about


def _open(settings: DenseSettings) -> Opened:
    size = settings.image_size + settings.recipe.crop_margin
    shared = {"size": size, "manual_dir": settings.manual_dir}
    first, count = settings.num_train, settings.num_test
    images = _masked("images", settings.images, settings.masks, slice(first), **shared)
    if settings.test_images is None:
        if len(images.source) == images.of:
            raise ValueError(
                f"--num_train={first} leaves none of the {images.of} images to test on"
            )
        part = slice(first, None if count is None else first + count)
        tests = _masked("num_train", settings.images, settings.masks, part, **shared)
    else:
        part = slice(count)
        tests = _masked("test_images", settings.test_images, settings.test_masks, part, **shared)
    for flag, wanted, found in (("num_train", first, images), ("num_test", count, tests)):
        if wanted is not None and len(found.source) < wanted:
            raise ValueError(f"--{flag}={wanted}: there are only {len(found.source)} images")
    common = _identities(images) & _identities(tests)
    if common:
        raise ValueError(f"--test_images: {len(common)} of them are among those of --images")
    digests = {
        name: hashlib.sha256(masked.masks.tobytes()).hexdigest()
        for name, masked in (("masks", images), ("test_masks", tests))
    }
    return Opened(
        Examples(images.source, images.masks), Examples(tests.source, tests.masks), {}, digests
    )


def _identities(masked: Masked) -> set[str]:
    """Names of images that are the same for the same image, however its folder is written."""
    spec = masked.source.name
    # Those of datasets hold their full names.
    root = "" if spec.startswith("tfds:") else f"{Path(spec).expanduser().resolve()}/"
    return {root + key for key in masked.source.keys}


def _masked(flag: str, spec: str, masks: str | None, part: slice, **how: Any) -> Masked:
    try:
        return open_masked(spec, masks, part=part, **how)
    except ValueError as error:
        raise ValueError(f"--{flag}: {error}") from error


def _with_encoder(network: Any, encoder: Any) -> Any:
    """The classifier head that a file may have is left behind."""
    own = {kind: tree["encoder"] for kind, tree in network.items()}
    layers = own["params"].keys()
    kept = {k: {n: v for n, v in tree.items() if n in layers} for k, tree in encoder.items()}
    found = with_encoder(own, kept)
    return {kind: {**tree, "encoder": found[kind]} for kind, tree in network.items()}


def _objective(settings: DenseSettings, padding: str, opened: Opened) -> Saliency:
    network = SaliencyNetwork(settings.encoder, padding, jnp.dtype(settings.recipe.dtype))
    return Saliency(network, settings.recipe.label_smoothing)


def _files(finished: Finished) -> dict[str, bytes]:
    """The encoder's weights, the whole network, and the measures of every test image."""
    settings, variables = finished.settings, finished.trained.variables
    about = finished.about()
    flat = {
        key: np.asarray(array)
        for key, array in flax.traverse_util.flatten_dict(variables, sep="/").items()
    }
    encoder = {kind: tree["encoder"] for kind, tree in variables.items()}
    dtype = np.dtype(settings.weights_dtype)
    wide = Saliency(SaliencyNetwork(settings.encoder, finished.padding))
    measures = finished.measures(wide, variables)
    prior = {f"prior_{name}": array for name, array in _prior(finished).items()}
    key = json.dumps(
        {"encoder": settings.encoder, "padding": finished.padding, "seed": finished.recipe.seed}
    )
    text = io.BytesIO()
    np.savez_compressed(text, about=key, **measures, **prior)
    return {
        NETWORK: safetensors_bytes(flat, {"network": "saliency", **about}),
        MEASURES: text.getvalue(),
        WEIGHTS: to_safetensors(settings.encoder, encoder, about, dtype),
    }


def _prior(finished: Finished) -> dict[str, np.ndarray]:
    """The measures of the average mask of training, predicted for every test image."""
    margin = finished.recipe.crop_margin
    masks, truth = (
        np.asarray(central(feed.targets[..., None], margin))[..., 0]
        for feed in (finished.images, finished.tests)
    )
    # Training sees every image mirrored, too.
    mean = masks.mean(axis=0, dtype=np.float64) / 255
    mean = ((mean + mean[:, ::-1]) / 2).astype(np.float32)
    size, measure = finished.recipe.batch_size, jax.jit(saliency_measures)
    parts = []
    for start in range(0, len(truth), size):
        salient = truth[start : start + size] > HALF
        predicted = np.broadcast_to(mean, salient.shape)
        parts.append(jax.device_get(measure(predicted, salient)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


MASKS = Kind(_open, _objective, _files, write_table, _with_encoder)
"""Encoders with decoders on images with masks, and saliency.csv."""
