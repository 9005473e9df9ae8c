"""Training on images with masks: what a run of it opens and leaves."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open

from posjax.encoders import Padding
from posjax.encoders.weights.export import safetensors_bytes, to_safetensors
from posjax.images import HALF, Masked, open_masked
from posjax.runs.fields import setting
from posjax.training.augment import central
from posjax.training.feeding import Dataset
from posjax.training.initial import with_encoder
from posjax.training.saliency.measures import saliency_measures
from posjax.training.saliency.network import SaliencyNetwork, SaliencyObjective
from posjax.training.saliency.table import MEASURES, write_table
from posjax.training.settings import TrainingSettings
from posjax.training.task import WEIGHTS, Datasets, TrainedModel

NETWORK = "network.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaliencySettings(TrainingSettings):
    """What a run on masks trains: images and masks with the same names.

    Without `test_images`, the test images are those behind the first `num_train`, in the order of
    their names.
    """

    images: str = setting(help="Folder of images to train on, or tfds:NAME[:SPLIT].")
    masks: str | None = setting(
        None,
        "Folder of the masks of images, of the same names except for their ending. tfds: brings "
        "its masks.",
    )
    test_images: str | None = setting(
        None,
        "Folder of images to test on, or tfds:NAME[:SPLIT].",
        default_text="those of images behind the first num_train, in the order of their names",
    )
    test_masks: str | None = setting(None, "Folder of the masks of test_images.")

    with_head: ClassVar[bool] = False

    def __post_init__(self):
        """Refuses values that cannot run, by the name of the field."""
        super().__post_init__()
        if self.test_masks and self.test_images is None:
            raise ValueError("test_masks needs test_images")
        if self.test_images is None and self.num_train is None:
            raise ValueError(
                "num_train is needed without test_images: the images behind so many are those to "
                "test on"
            )


class Saliency:
    """Encoders with decoders on images with masks, and saliency.csv; a `Task`."""

    def open(self, settings: SaliencySettings) -> Datasets:
        """Opens images and masks.

        Raises:
            ValueError: they cannot be read, are too few, or test images are training images; names
                the argument.
        """
        train, test = _open_train(settings), _open_test(settings)
        common = _identities(train) & _identities(test)
        if common:
            raise ValueError(f"test_images: {len(common)} of them are among those of images")
        digests = {"images": train.source.digest(), "test_images": test.source.digest()}
        for name, masked in (("masks", train), ("test_masks", test)):
            digests[name] = hashlib.sha256(masked.masks.tobytes()).hexdigest()
        return Datasets(
            Dataset(train.source, train.masks), Dataset(test.source, test.masks), {}, digests
        )

    def objective(
        self, settings: SaliencySettings, padding: Padding, datasets: Datasets
    ) -> SaliencyObjective:
        """An encoder under this padding with its decoder."""
        dtype = jnp.dtype(settings.optimizer.dtype)
        network = SaliencyNetwork(settings.encoder, padding, dtype)
        return SaliencyObjective(network, settings.optimizer.label_smoothing)

    def files(self, model: TrainedModel) -> dict[str, bytes]:
        """The encoder's weights, the whole network, and the measures of every test image."""
        settings, variables, about = model.settings, model.trained.variables, model.about()
        flat = {key: np.asarray(array) for key, array in flatten_dict(variables, sep="/").items()}
        encoder = {kind: tree["encoder"] for kind, tree in variables.items()}
        dtype = np.dtype(settings.weights_dtype)
        wide = SaliencyObjective(SaliencyNetwork(settings.encoder, model.padding))
        measures = model.measures(wide, variables)
        prior = {f"prior_{name}": array for name, array in _prior(model).items()}
        key = {name: about[name] for name in ("encoder", "padding")} | {"seed": model.job.seed}
        content = io.BytesIO()
        # Any: numpy's stub has it that one of the names may be `allow_pickle`.
        arrays: dict[str, Any] = {"about": json.dumps(key), **measures, **prior}
        np.savez_compressed(content, **arrays)
        return {
            NETWORK: safetensors_bytes(flat, {"network": "saliency", **about}),
            MEASURES: content.getvalue(),
            WEIGHTS: to_safetensors(settings.encoder, encoder, about, dtype),
        }

    def write_table(self, workdir: Path) -> str:
        """Figures, see `table`."""
        return write_table(workdir)

    def with_encoder(self, network: Any, encoder: Any) -> Any:
        """Without the classifier head that a file may have."""
        ours = {kind: tree["encoder"] for kind, tree in network.items()}
        layers = ours["params"].keys()
        body = {k: {n: v for n, v in tree.items() if n in layers} for k, tree in encoder.items()}
        merged = with_encoder(ours, body)
        return {kind: {**tree, "encoder": merged[kind]} for kind, tree in network.items()}


def load_network(path: Path) -> tuple[SaliencyNetwork, Any, dict[str, str]]:
    """A trained network, its variables, and what its file says of it.

    Raises:
        ValueError, FileNotFoundError: no such file, or it is not one that `train_dense` left.
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
    network = SaliencyNetwork(about["encoder"], Padding.parse(about["padding"]))
    return network, unflatten_dict(flat), about


def _open_train(settings: SaliencySettings) -> Masked:
    part = slice(settings.num_train)
    return _masked(settings, "images", part, settings.num_train)


def _open_test(settings: SaliencySettings) -> Masked:
    if settings.test_images is not None:
        return _masked(settings, "test_images", slice(settings.num_test), settings.num_test)
    first, count = settings.num_train, settings.num_test
    assert first is not None  # the settings see to it
    return _masked(settings, "num_train", slice(first, count and first + count), count)


def _masked(settings: SaliencySettings, argument: str, part: slice, count: int | None) -> Masked:
    """A part of the images that an argument names, of which `count` are wanted."""
    test = argument == "test_images"
    spec, masks = (
        (settings.test_images, settings.test_masks) if test else (settings.images, settings.masks)
    )
    assert spec is not None  # nobody asks for test images that are not named
    size = settings.image_size + settings.optimizer.crop_margin
    try:
        masked = open_masked(spec, masks, size=size, part=part, manual_dir=settings.manual_dir)
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from error
    if count is not None and len(masked.source) < count:
        name = "num_train" if argument == "images" else "num_test"
        raise ValueError(f"{name}={count}: there are only {len(masked.source)} images")
    return masked


def _identities(masked: Masked) -> set[str]:
    """Names of images that are the same for the same image, however its folder is written."""
    spec = masked.source.name
    # Those of datasets hold their full names.
    root = "" if spec.startswith("tfds:") else f"{Path(spec).expanduser().resolve()}/"
    return {root + key for key in masked.source.keys}


def _prior(model: TrainedModel) -> dict[str, np.ndarray]:
    """The measures of the average mask of training, predicted for every test image."""
    margin = model.settings.optimizer.crop_margin
    masks, truth = (
        np.asarray(central(feed.targets[..., None], margin))[..., 0]
        for feed in (model.images, model.tests)
    )
    # Training sees every image mirrored, too.
    mean = masks.mean(axis=0, dtype=np.float64) / 255
    mean = ((mean + mean[:, ::-1]) / 2).astype(np.float32)
    size, measure = model.settings.optimizer.batch_size, jax.jit(saliency_measures)
    parts = []
    for start in range(0, len(truth), size):
        salient = truth[start : start + size] > HALF
        predicted = np.broadcast_to(mean, salient.shape)
        parts.append(jax.device_get(measure(predicted, salient)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
