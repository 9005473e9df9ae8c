"""What a run of training is asked for."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from posjax import encoders
from posjax.images import STATISTICS
from posjax.runs.settings import RANDOM, check_axis, check_known, check_least
from posjax.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run trains, on which images, and where it leaves it.

    `weights` are those that training begins with: random, or what `weights_path` takes.
    """

    encoder: str
    weights: str = RANDOM
    paddings: tuple[str, ...] = ("zeros",)
    seeds: tuple[int, ...] = (0,)
    recipe: Recipe
    images: str
    test_images: str
    num_train: int | None = None
    num_test: int | None = None
    image_size: int = 224
    normalize: str = "imagenet"
    evaluate_every: int = 1
    checkpoint_seconds: float = 60.0
    weights_dtype: str = "float32"
    workdir: Path
    manual_dir: Path | None = None
    devices: int = 0

    with_head: ClassVar = True

    def __post_init__(self):
        """Raises ValueError for what cannot run; names the flag."""
        if self.encoder not in encoders.names() or self.encoder == encoders.PIXELS:
            known = ", ".join(name for name in encoders.names() if name != encoders.PIXELS)
            raise ValueError(f"--encoder: {self.encoder!r} cannot be trained; one of {known} can")
        for padding in self.paddings:
            _, view = encoders.check_padding(self.encoder, padding)
            if view:
                raise ValueError(f"--paddings: views such as {padding!r} are not trained")
        check_known("normalize", (self.normalize,), tuple(STATISTICS))
        check_axis("paddings", self.paddings)
        check_axis("seeds", self.seeds)
        check_known("weights_dtype", (self.weights_dtype,), ("float32", "float16"))
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"--seeds must be from 0 to 2^32 - 1, found {seed}")
        check_least("image_size", 1, self.image_size)
        check_least("evaluate_every", 1, self.evaluate_every)
        check_least("checkpoint_seconds", 0, self.checkpoint_seconds)
        check_least("devices", 0, self.devices)
        for name in ("num_train", "num_test"):
            if getattr(self, name) is not None:
                check_least(name, 1, getattr(self, name))
        for padding in self.paddings:
            self._check_size(padding)

    def science(self) -> dict[str, Any]:
        """What determines the results."""
        elsewhere = ("workdir", "manual_dir", "devices", "checkpoint_seconds")
        elsewhere += ("paddings", "seeds", "recipe")
        own = {k: v for k, v in dataclasses.asdict(self).items() if k not in elsewhere}
        if self.weights == RANDOM:
            own.pop("weights")  # as in the workdirs of versions that knew no others
        recipe = dataclasses.asdict(self.recipe)
        recipe.pop("seed")
        return own | recipe

    def _check_size(self, padding: str) -> None:
        """Raises ValueError where images are too small for the encoder or its head."""
        encoder = encoders.create(self.encoder, padding, num_classes=2 if self.with_head else None)
        images = jax.ShapeDtypeStruct((1, self.image_size, self.image_size, 3), np.float32)
        try:
            jax.eval_shape(encoder.init, jax.random.key(0), images)
        except ValueError as error:
            raise ValueError(f"--image_size={self.image_size}: {error}") from error
