"""Classification: an encoder with the head of its paper learns the classes of images."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from posjax import encoders
from posjax.encoders.export import HEADS, as_stored, to_safetensors
from posjax.images import open_labelled
from posjax.runs import progress
from posjax.training.accuracy import write_table
from posjax.training.initial import with_encoder
from posjax.training.recipe import cross_entropy
from posjax.training.run import WEIGHTS, Examples, Finished, Kind, Opened
from posjax.training.settings import Settings
from posjax.training.steps import Measures


@dataclasses.dataclass(frozen=True)
class Classification:
    """Telling classes apart, by cross-entropy; an `Objective`."""

    module: nn.Module
    smoothing: float = 0.0

    trained: ClassVar = ("loss", "accuracy")
    tested: ClassVar = ("loss", "accuracy", "correct", "count")

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


def _open(settings: Settings) -> Opened:
    opened = []
    for flag, limit in (("images", settings.num_train), ("test_images", settings.num_test)):
        try:
            opened.append(
                open_labelled(
                    getattr(settings, flag),
                    size=settings.image_size + settings.recipe.crop_margin,
                    limit=limit,
                    manual_dir=settings.manual_dir,
                )
            )
        except ValueError as error:
            raise ValueError(f"--{flag}: {error}") from error
    images, tests = opened
    if images.classes != tests.classes:
        raise ValueError(
            f"--test_images has the classes {', '.join(tests.classes)}; those of --images are "
            f"{', '.join(images.classes)}"
        )
    examples = (Examples(labelled.source, labelled.labels) for labelled in opened)
    return Opened(*examples, {"classes": list(images.classes)}, {})


def _objective(settings: Settings, padding: str, opened: Opened) -> Classification:
    encoder = encoders.create(
        settings.encoder,
        padding,
        num_classes=len(opened.about["classes"]),
        dtype=jnp.dtype(settings.recipe.dtype),
    )
    return Classification(encoder, settings.recipe.label_smoothing)


def _with_encoder(network: Any, encoder: Any) -> Any:
    """With its head too, where that tells as many classes apart."""
    (head,) = HEADS & network["params"].keys()
    own, found = (tree["params"].get(head, {}).get("bias") for tree in (network, encoder))
    if found is not None and own.shape != found.shape:
        progress.note(
            f"the weights tell {len(found)} classes apart, the images have {own.shape[0]}: their "
            "head is left out"
        )
        params = {name: layer for name, layer in encoder["params"].items() if name != head}
        encoder = {**encoder, "params": params}
    return with_encoder(network, encoder)


def _files(finished: Finished) -> dict[str, bytes]:
    """The weights, with the accuracy of just these, as they are probed: in float32."""
    name, dtype = finished.settings.encoder, np.dtype(finished.settings.weights_dtype)
    variables = finished.trained.variables
    stored = encoders.from_torch(name, as_stored(name, variables, dtype))
    wide = Classification(finished.objective.module.clone(dtype=jnp.float32))
    found = wide.summary(finished.measures(wide, stored))
    metadata = {
        **finished.about(),
        "test_correct": str(found["correct"]),
        "test_count": str(found["count"]),
    }
    return {WEIGHTS: to_safetensors(name, variables, metadata, dtype)}


CLASSES = Kind(_open, _objective, _files, write_table, _with_encoder)
"""Encoders with their heads on labelled images, and accuracy.csv."""
