"""What a training of networks depends on. Each field is a flag of the programs that train."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from posjax import encoders
from posjax.encoders import DTYPES, RANDOM, STATISTICS, Padding
from posjax.runs.fields import (
    DEVICES,
    MANUAL_DIR,
    SKIP_BAD_IMAGES,
    check_fields,
    plain_path,
    result_fields,
    setting,
)

SCHEDULES = ("one_cycle", "cosine")
_ENCODERS = tuple(name for name in encoders.names() if encoders.has_head(name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """How a network is trained, given the encoder and the images."""

    epochs: int = setting(30, "Passes over the training images.", at_least=1)
    batch_size: int = setting(
        128, "Images in a step, over all devices; a multiple of their number.", at_least=1
    )
    learning_rate: float = setting(0.1, "Highest learning rate.", above=0)
    schedule: str = setting(
        "one_cycle",
        "How the learning rate falls from its peak to 0: in a straight line (one_cycle), or along "
        "a cosine.",
        choices=SCHEDULES,
    )
    warmup_epochs: float | None = setting(
        None,
        "Epochs in which the learning rate rises to its peak.",
        at_least=0,
        default_text="a sixth of all",
    )
    momentum: float = setting(0.9, "Nesterov momentum.", at_least=0, below=1)
    weight_decay: float = setting(
        5e-4, "Weight decay of the kernels; BatchNorm and biases have none.", at_least=0
    )
    label_smoothing: float = setting(
        0.0, "Probability that is spread evenly over all classes.", at_least=0, below=1
    )
    crop_margin: int = setting(
        4,
        "Images are opened so many pixels larger than image_size; training sees random windows of "
        "them, half of them mirrored, and testing the one in the middle. Windows lie within the "
        "image: no border is filled in.",
        at_least=0,
    )
    dtype: str = setting(
        "float32",
        "Type of the convolutions, float32 or bfloat16; weights are float32.",
        choices=DTYPES,
    )

    def __post_init__(self):
        """Refuses values out of range, by the name of the field."""
        check_fields(self)
        if self.rise >= self.epochs:
            raise ValueError(f"warmup_epochs must be below {self.epochs} epochs, found {self.rise}")
        object.__setattr__(self, "warmup_epochs", self.rise)

    @property
    def rise(self) -> float:
        """Epochs in which the learning rate rises."""
        return self.epochs / 6 if self.warmup_epochs is None else self.warmup_epochs


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What a run trains, on which images, and where it leaves it."""

    encoder: str = setting(
        "resnet20", f"Encoder, one of {', '.join(_ENCODERS)}.", choices=_ENCODERS
    )
    weights: str = setting(
        RANDOM,
        "Weights to begin with, as other programs take them: random, imagenet, cifar10, or a file; "
        "{padding} and {encoder} in the path stand for both. normalize has to be that of the "
        "weights.",
        parse=plain_path,
    )
    # Any: texts become `Padding`.
    paddings: tuple[Any, ...] = setting(
        (Padding("zeros"),),
        "Padding modes; an encoder is trained under each.",
        parse=Padding.parse,
        result=False,
    )
    seeds: tuple[int, ...] = setting(
        (0,),
        "Seeds of random initial weights, the order of the images, crops, flips and dropout; an "
        "encoder is trained for each.",
        at_least=0,
        below=2**32,
        result=False,
    )
    optimizer: OptimizerSettings = dataclasses.field(
        default_factory=OptimizerSettings, metadata={"result": False}
    )
    images: str = setting(
        help="Training images: a folder of class folders, or tfds:NAME[:SPLIT].", parse=plain_path
    )
    test_images: str = setting(help="Test images, of the same classes.", parse=plain_path)
    num_train: int | None = setting(
        None, "Number of training images.", at_least=1, default_text="all"
    )
    num_test: int | None = setting(None, "Number of test images.", at_least=1, default_text="all")
    image_size: int = setting(32, "Height and width of what the encoder sees, pixels.", at_least=1)
    normalize: str = setting(
        "cifar10",
        f"Statistics of the images, of {', '.join(STATISTICS)}.",
        choices=tuple(STATISTICS),
    )
    evaluate_every: int = setting(
        1,
        "Epochs from one evaluation on the test images to the next; the last epoch has one.",
        at_least=1,
    )
    checkpoint_seconds: float = setting(
        60.0,
        "Seconds from one checkpoint to the next: what a kill costs.",
        at_least=0,
        result=False,
    )
    weights_dtype: str = setting(
        "float32",
        "Type of the kernels in weights.safetensors.",
        choices=("float32", "float16"),
    )
    workdir: Path = setting(
        Path("runs/training"),
        "Folder for weights and curves; started again, training goes on.",
        result=False,
        default_text="runs/PROGRAM",
    )
    skip_bad_images: bool = setting(False, **SKIP_BAD_IMAGES)
    manual_dir: Path | None = setting(None, **MANUAL_DIR)
    devices: int = setting(0, **DEVICES)

    with_head: ClassVar[bool] = True

    def __post_init__(self):
        """Refuses values that cannot run, by the name of the field."""
        check_fields(self)
        image = jax.ShapeDtypeStruct((1, self.image_size, self.image_size, 3), np.float32)
        for padding in self.paddings:
            if padding.alignment:
                raise ValueError(f"paddings: alignments such as {padding} are not trained")
            encoders.check_padding(self.encoder, padding)
            classes = 2 if self.with_head else None
            encoder = encoders.create(self.encoder, padding, num_classes=classes)
            try:
                jax.eval_shape(encoder.init, jax.random.key(0), image)
            except ValueError as error:
                raise ValueError(f"image_size={self.image_size}: {error}") from error

    @property
    def opened_size(self) -> int:
        """Height and width of the images as they are opened."""
        return self.image_size + self.optimizer.crop_margin

    def identity(self) -> dict[str, Any]:
        """What determines the results: a run that goes on must have the same."""
        return result_fields(self) | result_fields(self.optimizer)
