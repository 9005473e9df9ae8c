"""The flags of programs that train encoders: some of all experiments', and some of their own."""

import dataclasses
import os
from types import MappingProxyType
from typing import Any

from absl import flags

from experiments import flags as common
from experiments import some_flags
from posjax import encoders, training
from posjax.images import STATISTICS
from posjax.runs.settings import RANDOM
from posjax.training.recipe import SCHEDULES

_SCHEDULE = flags.DEFINE_enum(
    "schedule",
    "one_cycle",
    SCHEDULES,
    "How the learning rate falls from its peak to 0: in a straight line, or along a cosine.",
)
_WARMUP_EPOCHS = flags.DEFINE_float(
    "warmup_epochs",
    None,
    "Epochs in which the learning rate rises to its peak. Default: a sixth of all.",
)
_MOMENTUM = flags.DEFINE_float("momentum", 0.9, "Nesterov momentum.")
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", 5e-4, "Weight decay of the kernels; BatchNorm and biases have none."
)
_LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing", 0.0, "Probability that is spread evenly over all classes."
)
_CROP_MARGIN = flags.DEFINE_integer(
    "crop_margin",
    4,
    "Images are opened so many pixels larger than --image_size; training sees random windows of "
    "them, half of them mirrored, and testing the one in the middle. Windows lie within the image: "
    "no border is filled in.",
)
_WEIGHTS_DTYPE = flags.DEFINE_enum(
    "weights_dtype", "float32", ("float32", "float16"), "Of the kernels in weights.safetensors."
)
_EVALUATE_EVERY = flags.DEFINE_integer(
    "evaluate_every", 1, "Epochs from one look at the test images to the next; the last has one."
)
_CHECKPOINT_SECONDS = flags.DEFINE_float(
    "checkpoint_seconds", 60.0, "Seconds from one checkpoint to the next: what a kill costs."
)

_OWN = [
    *("schedule", "warmup_epochs", "momentum", "weight_decay", "label_smoothing", "crop_margin"),
    *("weights_dtype", "evaluate_every", "checkpoint_seconds"),
]
_PLACES = ("workdir", "manual_dir", "devices")
_SHARED: dict[str, tuple[Any, str]] = {
    "encoder": (
        ["resnet20"],
        f"Encoder, one of {', '.join(n for n in encoders.names() if n != encoders.PIXELS)}.",
    ),
    "weights": (
        None,
        "Weights to begin with, as other programs take them: random (the default), imagenet, "
        "cifar10, or a file; {padding} and {encoder} in the path stand for both. --normalize has "
        "to be that of the weights.",
    ),
    "paddings": (["zeros"], "Padding modes; an encoder is trained under each."),
    "seeds": (
        ["0"],
        "Seeds of random initial weights, the order of the images, crops and flips; an encoder is "
        "trained for each.",
    ),
    "images": (None, "Training images: a folder of class folders, or tfds:NAME[:SPLIT]. Required."),
    "test_images": ([], "Test images, of the same classes. Required."),
    "num_train": (None, "Number of training images. Default: all."),
    "num_test": (None, "Number of test images. Default: all."),
    "image_size": (32, "Height and width of what the encoder sees, pixels. Default: 32."),
    "normalize": ("cifar10", f"Statistics of the images, of {', '.join(STATISTICS)}."),
    "batch_size": (128, "Images in a step, over all devices; a multiple of their number."),
    "epochs": (30, "Passes over the training images."),
    "learning_rate": (0.1, "Highest learning rate."),
    "dtype": ("float32", "float32 or bfloat16, of the convolutions; weights are float32."),
    "workdir": (
        None,
        "Folder for weights and curves; started again, training goes on. Default: runs/PROGRAM.",
    ),
    **some_flags.SHARED,
    "compile_cache": (
        None,
        "Folder of compiled programs; empty to keep none. Default: none on a CPU, where programs "
        "that are kept train more slowly, and elsewhere that of the other programs.",
    ),
}


def adapt(others: some_flags.Words = MappingProxyType({}), *more: str) -> None:
    """Gives the flags that all experiments share the defaults and words of programs that train.

    `others` are a program's own defaults and words, by flag, and `more` flags of its own.
    """
    some_flags.adapt({**_SHARED, **others}, (*_OWN, *more))


def settings(program: str) -> training.Settings:
    """The settings of a training on classes that the flags describe.

    `program` names the default workdir.

    Raises:
        ValueError: a value that cannot run, or one that is missing; names its flag.
    """
    flag = common_settings(program)
    if not flag["images"] or not flag["test_images"]:
        raise ValueError(
            "--images and --test_images are needed, once each: folders of class folders, or "
            "tfds:NAME[:SPLIT]"
        )
    return training.Settings(**flag)


def common_settings(program: str) -> dict[str, Any]:
    """The fields of the settings of every training that the flags describe.

    Raises:
        ValueError: a value that cannot run; names its flag.
    """
    subject = "the training of an encoder"
    flag = some_flags.read(program, subject, (*_SHARED, *_OWN))
    if len(flag["test_images"]) > 1:
        raise ValueError("--test_images: one at a time")
    if len(flag["encoder"]) != 1:
        raise ValueError(f"--encoder: one at a time, found {', '.join(flag['encoder'])}")
    if flag["weights"] is not None and (len(flag["weights"]) != 1 or not all(flag["weights"])):
        raise ValueError(f"--weights: one at a time, found {','.join(flag['weights'])!r}")
    if flag["warmup_epochs"] is None:
        flag["warmup_epochs"] = flag["epochs"] / 6
    recipe = {field.name for field in dataclasses.fields(training.Recipe)} - {"seed"}
    same = ("num_train", "num_test", "image_size", "normalize")
    same += ("evaluate_every", "weights_dtype", "checkpoint_seconds", *_PLACES)
    return dict(
        encoder=flag["encoder"][0],
        weights=next(map(os.path.expanduser, flag["weights"] or ()), RANDOM),
        paddings=tuple(flag["paddings"]),
        seeds=common.integers("seeds", flag["seeds"]),
        recipe=training.Recipe(**{name: flag[name] for name in recipe}),
        images=flag["images"],
        test_images=next(iter(flag["test_images"]), None),
        **{name: flag[name] for name in same},
    )
