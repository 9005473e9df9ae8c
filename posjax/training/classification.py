"""Classification: an encoder with the head of its paper learns the classes of images."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from posjax import encoders
from posjax.encoders import Padding
from posjax.encoders.weights.export import as_stored, to_safetensors
from posjax.images import Labelled, open_labelled
from posjax.probes.trainer import Variables
from posjax.training.accuracy import write_table
from posjax.training.dataset import Dataset
from posjax.training.objective import Measures, Objective
from posjax.training.settings import TrainingSettings
from posjax.training.task import WEIGHTS, Job, Task, left_out, naming, shorten
from posjax.training.train import evaluate


class CrossEntropy(Objective):
    """Telling classes apart: `torch.nn.functional.cross_entropy` in float32."""

    trained = ("loss", "accuracy")
    tested = ("loss", "accuracy", "correct", "count")

    def losses(
        self, logits: Float[Array, "n classes"], targets: Int[Array, " n"], smoothing: float = 0.0
    ) -> Float[Array, " n"]:
        """The cross-entropy of each image."""
        wanted = optax.smooth_labels(jax.nn.one_hot(targets, logits.shape[-1]), smoothing)
        return optax.softmax_cross_entropy(logits.astype(jnp.float32), wanted)

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


class Classification(Task):
    """Encoders with their heads on labelled images: folders of class folders, or tfds datasets."""

    @classmethod
    def open(cls, settings: TrainingSettings) -> "Classification":
        """Opens the images that the settings name.

        Raises:
            ValueError: they cannot be read, or have different classes; names the argument.
        """
        train = _open_labelled(settings, "images", settings.images, settings.num_train)
        test = _open_labelled(settings, "test_images", settings.test_images, settings.num_test)
        _check_classes(train.classes, test.classes)
        parts = {"images": train, "test images": test}
        facts = {"classes": shorten(train.classes)}
        for name, part in parts.items():
            present = {part.classes[label] for label in part.labels}
            if absent := [each for each in part.classes if each not in present]:
                facts[f"no {name} of"] = shorten(absent)
        return cls(
            settings,
            Dataset(train.source, train.labels),
            Dataset(test.source, test.labels),
            {"images": train.source.digest(), "test_images": test.source.digest()},
            {"classes": list(train.classes)},
            facts | left_out({name: part.source.skipped for name, part in parts.items()}),
        )

    def objective(self, padding: Padding) -> CrossEntropy:
        """The encoder under this padding, with a head for the classes."""
        settings = self.settings.optimizer
        encoder = encoders.create(
            self.settings.encoder,
            padding,
            num_classes=len(self.about["classes"]),
            dtype=jnp.dtype(settings.dtype),
        )
        return CrossEntropy(encoder, settings.label_smoothing)

    def files(self, job: Job, variables: Variables) -> dict[str, bytes]:
        """The weights, with the accuracy of just these, as they are probed: in float32."""
        name, dtype = self.settings.encoder, np.dtype(self.settings.weights_dtype)
        stored = encoders.from_torch(name, as_stored(name, variables, dtype))
        wide = CrossEntropy(job.objective.module.clone(dtype=jnp.float32))
        figures = wide.summary(evaluate(job, wide, stored))
        metadata = {f"test_{key}": str(figures[key]) for key in ("correct", "count")}
        return {WEIGHTS: to_safetensors(name, variables, job.metadata() | metadata, dtype)}

    def write_table(self) -> str:
        """Writes accuracy.csv, see `accuracy`."""
        return write_table(self.settings.workdir)


def _open_labelled(
    settings: TrainingSettings, argument: str, spec: str, limit: int | None
) -> Labelled:
    with naming(argument):
        return open_labelled(
            spec,
            size=settings.opened_size,
            limit=limit,
            skip_bad_images=settings.skip_bad_images,
            manual_dir=settings.manual_dir,
        )


def _check_classes(train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train == test:
        return
    lacking = [name for name in train if name not in test]
    more = [name for name in test if name not in train]
    problems = [f"lacks {shorten(lacking)}"] if lacking else []
    problems += [f"has {shorten(more)} beside them"] if more else []
    raise ValueError(
        f"test_images: expected the {len(train)} classes of images; it "
        f"{' and '.join(problems) or 'has them in another order'}"
    )
