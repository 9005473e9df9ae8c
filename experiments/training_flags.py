"""The flags of programs that train encoders: some of all experiments', and some of their own."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from absl import flags

from experiments import flags as common
from experiments.compilation import start
from posjax import encoders, training
from posjax.images import STATISTICS
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
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ("float32", "bfloat16"), "Of the convolutions; weights are float32."
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
    *("dtype", "weights_dtype", "evaluate_every", "checkpoint_seconds"),
]
_SHARED: dict[str, tuple[Any, str]] = {
    "encoder": (
        ["resnet20"],
        f"Encoder, one of {', '.join(n for n in encoders.names() if n != encoders.PIXELS)}.",
    ),
    "paddings": (["zeros"], "Padding modes; an encoder is trained under each."),
    "seeds": (
        ["0"],
        "Seeds of the initial weights, the order of the images, crops and flips; an encoder is "
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
    "workdir": (
        None,
        "Folder for weights and curves; started again, training goes on. Default: runs/PROGRAM.",
    ),
    "manual_dir": (None, "Folder of archives for tfds: that were downloaded by hand."),
    "devices": (0, "Number of local devices, 0 for all; on a CPU, so many virtual ones are made."),
    "compile_cache": (None, "Folder of compiled programs; empty to keep none."),
}


def adapt(others: Mapping[str, tuple[Any, str]] = MappingProxyType({}), *more: str) -> None:
    """Gives the flags that all experiments share the defaults and words of programs that train.

    `others` are a program's own defaults and words, by flag, and `more` flags of its own.
    """
    for name, (default, text) in {**_SHARED, **others}.items():
        flags.FLAGS.set_default(name, default)
        flags.FLAGS[name].help = text
    for name in (*_SHARED, *_OWN, *more):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


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
    flag = {name: flags.FLAGS[name].value for name in (*_SHARED, *_OWN)}
    foreign = {
        f.name for f in flags.FLAGS.flags_by_module_dict()[common.__name__] if f.present
    } - flag.keys()
    if foreign:
        raise ValueError(f"--{min(foreign)} means nothing to the training of an encoder")
    quiet = not flags.FLAGS["verbosity"].present
    start(flag["devices"], flag["compile_cache"], quiet=quiet)
    if len(flag["test_images"]) > 1:
        raise ValueError("--images and --test_images are needed, once each")
    if len(flag["encoder"]) != 1:
        raise ValueError(f"--encoder: one at a time, found {', '.join(flag['encoder'])}")
    if flag["warmup_epochs"] is None:
        flag["warmup_epochs"] = flag["epochs"] / 6
    recipe = {field.name for field in dataclasses.fields(training.Recipe)} - {"seed"}
    same = ("num_train", "num_test", "image_size", "normalize")
    same += ("evaluate_every", "weights_dtype", "checkpoint_seconds")
    return dict(
        encoder=flag["encoder"][0],
        paddings=tuple(flag["paddings"]),
        seeds=common.integers("seeds", flag["seeds"]),
        recipe=training.Recipe(**{name: flag[name] for name in recipe}),
        images=flag["images"],
        test_images=next(iter(flag["test_images"]), None),
        manual_dir=Path(flag["manual_dir"]).expanduser() if flag["manual_dir"] else None,
        workdir=Path(flag["workdir"] or f"runs/{program}").expanduser(),
        devices=flag["devices"],
        **{name: flag[name] for name in same},
    )
