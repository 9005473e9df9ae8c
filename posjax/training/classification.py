"""Classification: an encoder with the head of its paper learns the classes of images."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from posjax import encoders
from posjax.encoders import Padding
from posjax.encoders.weights.export import HEADS, as_stored, to_safetensors
from posjax.images import Labelled, open_labelled
from posjax.runtime import progress
from posjax.training.accuracy import write_table
from posjax.training.feeding import Dataset
from posjax.training.initial import with_encoder
from posjax.training.objective import Measures
from posjax.training.optimizer import cross_entropy
from posjax.training.settings import TrainingSettings
from posjax.training.task import WEIGHTS, Datasets, TrainedModel


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """Telling classes apart, by cross-entropy; an `Objective`."""

    module: nn.Module
    smoothing: float = 0.0

    trained = ("loss", "accuracy")
    tested = ("loss", "accuracy", "correct", "count")

    def losses(
        self, logits: Float[Array, "n classes"], targets: Int[Array, " n"], smoothing: float = 0.0
    ) -> Float[Array, " n"]:
        """The cross-entropy of each image."""
        return cross_entropy(logits, targets, smoothing)

    def measures(self, logits: Float[Array, "n classes"], targets: Int[Array, " n"]) -> Measures:
        """Whether each image is classified right: 1 or 0."""
        return {"accuracy": (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)}

    def summary(self, measures: dict[str, np.ndarray]) -> dict[str, float]:
        """Mean loss, accuracy, and the exact counts behind it."""
        right = measures["accuracy"] > 0
        return {
            "loss": float(np.mean(measures["loss"], dtype=np.float64)),
            "accuracy": float(right.mean()),
            "correct": int(right.sum()),
            "count": len(right),
        }


class Classification:
    """Encoders with their heads on labelled images, and accuracy.csv; a `Task`."""

    def open(self, settings: TrainingSettings) -> Datasets:
        """Opens folders of class folders, or datasets with a label.

        Raises:
            ValueError: they cannot be read, or have different classes; names the argument.
        """
        train = _open_labelled(settings, "images", settings.images, settings.num_train)
        test = _open_labelled(settings, "test_images", settings.test_images, settings.num_test)
        if train.classes != test.classes:
            raise ValueError(
                f"test_images has the classes {', '.join(test.classes)}; those of images are "
                f"{', '.join(train.classes)}"
            )
        return Datasets(
            Dataset(train.source, train.labels),
            Dataset(test.source, test.labels),
            {"classes": list(train.classes)},
            {"images": train.source.digest(), "test_images": test.source.digest()},
        )

    def objective(
        self, settings: TrainingSettings, padding: Padding, datasets: Datasets
    ) -> CrossEntropy:
        """The encoder under this padding, with a head for the classes."""
        encoder = encoders.create(
            settings.encoder,
            padding,
            num_classes=len(datasets.about["classes"]),
            dtype=jnp.dtype(settings.optimizer.dtype),
        )
        return CrossEntropy(encoder, settings.optimizer.label_smoothing)

    def files(self, model: TrainedModel) -> dict[str, bytes]:
        """The weights, with the accuracy of just these, as they are probed: in float32."""
        name, dtype = model.settings.encoder, np.dtype(model.settings.weights_dtype)
        variables = model.trained.variables
        stored = encoders.from_torch(name, as_stored(name, variables, dtype))
        wide = CrossEntropy(model.job.objective.module.clone(dtype=jnp.float32))
        figures = wide.summary(model.measures(wide, stored))
        metadata = {
            **model.about(),
            "test_correct": str(figures["correct"]),
            "test_count": str(figures["count"]),
        }
        return {WEIGHTS: to_safetensors(name, variables, metadata, dtype)}

    def write_table(self, workdir: Path) -> str:
        """Accuracies, see `accuracy`."""
        return write_table(workdir)

    def with_encoder(self, network: Any, encoder: Any) -> Any:
        """With its head too, where that has as many classes."""
        (head,) = HEADS & network["params"].keys()
        ours, theirs = (tree["params"].get(head, {}).get("bias") for tree in (network, encoder))
        if theirs is not None and ours.shape != theirs.shape:
            progress.note(
                f"the weights are of {len(theirs)} classes, the images have {ours.shape[0]}: their "
                "head is left out"
            )
            params = {name: layer for name, layer in encoder["params"].items() if name != head}
            encoder = {**encoder, "params": params}
        return with_encoder(network, encoder)


def _open_labelled(
    settings: TrainingSettings, argument: str, spec: str, limit: int | None
) -> Labelled:
    size = settings.image_size + settings.optimizer.crop_margin
    try:
        return open_labelled(spec, size=size, limit=limit, manual_dir=settings.manual_dir)
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from error
