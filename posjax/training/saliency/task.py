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

from posjax.encoders import Padding
from posjax.encoders.weights.export import to_safetensors
from posjax.images import HALF, Masked, open_masked
from posjax.probes.trainer import Variables
from posjax.runs.fields import plain_path, setting
from posjax.training.augment import central
from posjax.training.dataset import Dataset
from posjax.training.saliency.measures import saliency_measures
from posjax.training.saliency.network import SaliencyNetwork, SaliencyObjective
from posjax.training.saliency.saved import NETWORK, network_bytes
from posjax.training.saliency.table import MEASURES, write_table
from posjax.training.settings import TrainingSettings
from posjax.training.task import WEIGHTS, Job, Task, left_out, naming
from posjax.training.train import evaluate


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaliencySettings(TrainingSettings):
    """What a run on masks trains: images and masks with the same names.

    Without `test_images`, the test images are those behind the first `num_train`, in the order of
    their names.
    """

    images: str = setting(
        help="Folder of images to train on, or tfds:NAME[:SPLIT].", parse=plain_path
    )
    masks: str | None = setting(
        None,
        "Folder of the masks of images, of the same names except for their ending. tfds: brings "
        "its masks.",
        parse=plain_path,
    )
    test_images: str | None = setting(
        None,
        "Folder of images to test on, or tfds:NAME[:SPLIT].",
        parse=plain_path,
        default_text="those of images behind the first num_train, in the order of their names",
    )
    test_masks: str | None = setting(None, "Folder of the masks of test_images.", parse=plain_path)

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


class Saliency(Task):
    """Encoders with decoders on images with masks, and saliency.csv."""

    @classmethod
    def open(cls, settings: SaliencySettings) -> "Saliency":
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
        train_set, test_set = (Dataset(masked.source, masked.masks) for masked in (train, test))
        parts = {"images": train, "test images": test}
        facts = {
            f"masks of {name}": ", ".join(f"{n} of {text}" for text, n in part.meanings.items())
            for name, part in parts.items()
        }
        facts |= left_out({name: part.skipped for name, part in parts.items()})
        return cls(settings, train_set, test_set, digests, facts=facts)

    def objective(self, padding: Padding) -> SaliencyObjective:
        """An encoder under this padding with its decoder."""
        settings = self.settings.optimizer
        network = SaliencyNetwork(self.settings.encoder, padding, jnp.dtype(settings.dtype))
        return SaliencyObjective(network, settings.label_smoothing)

    def files(self, job: Job, variables: Variables) -> dict[str, bytes]:
        """The encoder's weights, the whole network, and the measures of every test image."""
        name, metadata = self.settings.encoder, job.metadata()
        wide = SaliencyObjective(SaliencyNetwork(name, job.padding))
        about = {"encoder": name, "padding": str(job.padding), "seed": job.seed}
        # Any: numpy's stub has it that one of the names may be `allow_pickle`.
        arrays: dict[str, Any] = {"about": json.dumps(about), **evaluate(job, wide, variables)}
        arrays |= {f"prior_{key}": array for key, array in self._prior().items()}
        measures = io.BytesIO()
        np.savez_compressed(measures, **arrays)
        encoder = {kind: tree["encoder"] for kind, tree in variables.items()}
        dtype = np.dtype(self.settings.weights_dtype)
        return {
            NETWORK: network_bytes(variables, metadata),
            MEASURES: measures.getvalue(),
            WEIGHTS: to_safetensors(name, encoder, metadata, dtype),
        }

    def write_table(self) -> str:
        """Writes saliency.csv, see `table`."""
        return write_table(self.settings.workdir)

    def _prior(self) -> dict[str, np.ndarray]:
        """The measures of the average mask of training, predicted for every test image."""
        margin, size = self.settings.optimizer.crop_margin, self.settings.optimizer.batch_size
        mean = central(self.train.targets, margin).mean(axis=0, dtype=np.float64) / 255
        # Training sees every image mirrored, too.
        mean = ((mean + mean[:, ::-1]) / 2).astype(np.float32)
        salient = central(self.test.targets, margin) > HALF
        measure = jax.jit(saliency_measures)
        parts = [
            measure(np.broadcast_to(mean, part.shape), part)
            for part in np.split(salient, range(size, len(salient), size))
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _open_train(settings: SaliencySettings) -> Masked:
    count = settings.num_train
    train = _open(settings, "images", settings.images, settings.masks, slice(count))
    return _checked(train, "num_train", count)


def _open_test(settings: SaliencySettings) -> Masked:
    first, count = settings.num_train, settings.num_test
    if settings.test_images is not None:
        pair, part = (settings.test_images, settings.test_masks), slice(count)
        return _checked(_open(settings, "test_images", *pair, part), "num_test", count)
    assert first is not None  # the settings see to it
    part = slice(first, count and first + count)
    test = _open(settings, "num_train", settings.images, settings.masks, part)
    return _checked(test, "num_test", count)


def _open(
    settings: SaliencySettings, argument: str, images: str, masks: str | None, part: slice
) -> Masked:
    with naming(argument):
        return open_masked(
            images,
            masks,
            size=settings.opened_size,
            part=part,
            skip_bad_images=settings.skip_bad_images,
            manual_dir=settings.manual_dir,
        )


def _checked(masked: Masked, argument: str, count: int | None) -> Masked:
    # Images that cannot be read are none of the first so many. Pairs that do not fit are.
    pairs = len(masked.source) + len(masked.skipped) - len(masked.source.skipped)
    if count is not None and pairs < count:
        raise ValueError(f"{argument}={count}: there are only {pairs} images")
    return masked


def _identities(masked: Masked) -> set[str]:
    """Names of images that are the same for the same image, however its folder is written."""
    spec = masked.source.name
    # Those of datasets hold their full names.
    root = "" if spec.startswith("tfds:") else f"{Path(spec).expanduser().resolve()}/"
    return {root + key for key in masked.source.keys}
