"""The flags that all experiments share: the only place that reads them."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments.compilation import start
from experiments.defaults import DEMONSTRATION, PAPER, in_words
from posjax import encoders, layers, probes
from posjax.runs import Settings
from posjax.runs.settings import CONTROLS, DTYPES, NORMALIZATIONS, RANDOM, SOLVERS

# As JAX names them: three, each by two names.
PRECISIONS = ("default", "high", "highest", "bfloat16", "tensorfloat32", "float32")
_ENCODER = flags.DEFINE_list(
    "encoder",
    None,
    f"Encoders, of {', '.join(encoders.names())}; pixels is the image itself. "
    f"{in_words('encoder')} The demonstration is what runs without --encoder, --weights and "
    "--images: few small generated images, in a minute.",
)
_WEIGHTS = flags.DEFINE_list(
    "weights",
    None,
    "Weights of the encoder: random (the default; drawn anew for each seed), imagenet, cifar10 "
    "(resnet20 as trained under that very padding mode), cifar10:MODE (under MODE), or a "
    ".safetensors, .npz, .pth, .th or .pt file; {padding} and {encoder} in the path stand for the "
    "padding mode and the encoder. A comma list probes each.",
)
_PADDINGS = flags.DEFINE_list(
    "paddings",
    ["zeros", "reflect", "replicate", "circular", "valid"],
    f"Padding modes, of {', '.join(layers.MODES)}. zeros+features.0=reflect switches "
    "a layer to another mode, zeros+each=reflect stands for every layer in its turn; zeros@cropped "
    "and valid@enlarged compare on the same responses (see experiments.matched_valid).",
)
_POOL_PADDING = flags.DEFINE_enum(
    "pool_padding",
    None,
    (*layers.MODES, "lowest"),
    "Padding of the pool in the stem of the ImageNet ResNets; lowest is PyTorch's −inf. "
    "Default: the encoder's padding mode.",
)
_STAGES = flags.DEFINE_list(
    "stages",
    ["all"],
    "Stages that the readouts see, joined by +, such as f1+f2; commas separate grid points. all: "
    "all at once; each: every one by itself. Default: all.",
)
_MAPS = flags.DEFINE_list("maps", ["H", "V", "G"], f"Position maps, of {', '.join(probes.MAPS)}.")
_DEPTHS = flags.DEFINE_list("depths", ["1"], "Numbers of convolutions in the readout.")
_KERNEL_SIZES = flags.DEFINE_list("kernel_sizes", ["3"], "Kernel sizes of the readout, pixels.")
_READOUT_PADDINGS = flags.DEFINE_list(
    "readout_paddings", ["0"], "Zeros around the input of the readout's convolutions, pixels."
)
_ONE_AT_A_TIME = flags.DEFINE_boolean(
    "one_at_a_time",
    False,
    "Vary --depths, --kernel_sizes and --readout_paddings one at a time, the others at the first "
    "of their values, in place of the whole grid.",
)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0", "1", "2"], "Seeds of the readout's initial weights, and of random encoders."
)
_SOLVER = flags.DEFINE_enum(
    "solver",
    "sgd",
    SOLVERS,
    "How readouts are fitted: sgd (as in the paper), or ridge: linear readouts (depth 1, without "
    "BatchNorm and sigmoid) in closed form, their penalty chosen on held-out training images; no "
    "--epochs, no --learning_rate, no --seeds but those of random encoders.",
)
_CONTROLS = flags.DEFINE_list(
    "controls",
    None,
    "What is measured beside the results, to see what they are worth, into controls.csv and the "
    "report: pixels (readouts on the image itself), random (the encoder with random weights), "
    "selectivity (the same readouts on a shuffled and on a smooth random map), floor (on maps "
    "shuffled for each image anew), roll (images rolled at random, so that content carries no "
    "position), none. Default: all that apply, in the demonstration without roll.",
)
_SOURCES = "a folder, tfds:NAME[:SPLIT], dead_leaves, noise, black or white"
_IMAGES = flags.DEFINE_string("images", None, f"Training images: {_SOURCES}. Default: dead_leaves.")
_TEST_IMAGES = flags.DEFINE_multi_string(
    "test_images", ["dead_leaves"], f"Test images, may be given several times: {_SOURCES}."
)
_NUM_TRAIN = flags.DEFINE_integer(
    "num_train",
    None,
    "Number of training images. Default: all of a folder or dataset; of dead_leaves and noise "
    f"{PAPER['endless_train']}, in the demonstration {DEMONSTRATION['endless_train']}.",
)
_NUM_TEST = flags.DEFINE_integer(
    "num_test",
    None,
    "Number of test images from each source. Default: all of a folder or dataset; of dead_leaves "
    f"and noise {PAPER['endless_test']}, in the demonstration {DEMONSTRATION['endless_test']}. "
    "Black and white are one image each.",
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    f"Height and width of images and position maps, pixels. {in_words('image_size')}",
)
_NORMALIZE = flags.DEFINE_enum(
    "normalize",
    "encoder",
    NORMALIZATIONS,
    "Statistics that images are normalised by: encoder (those that the weights were trained with; "
    "none for random weights, imagenet for a file that does not say), none (the released code's "
    "recipe), imagenet or cifar10.",
)
_SKIP_BAD_IMAGES = flags.DEFINE_boolean(
    "skip_bad_images", False, "Leave out and list files that are no images, not refuse them."
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir",
    None,
    "Folder of archives that were downloaded by hand for tfds: datasets, such as DUTS-TR.zip. "
    "Default: downloads/manual under TFDS_DATA_DIR.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, f"Images in a step, over all devices. {in_words('batch_size')}"
)
_EPOCHS = flags.DEFINE_integer(
    "epochs", None, f"Passes of the readouts over the training images. {in_words('epochs')}"
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 0.1, "Learning rate of the readouts; a tenth of it after 2/3 of the epochs."
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    DTYPES,
    "Of the encoder's convolutions; bfloat16 is faster on TPUs and GPUs, not on a CPU.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    None,
    PRECISIONS,
    "How TPUs and GPUs multiply float32 in convolutions, JAX's default_matmul_precision: default "
    "or bfloat16 (fastest: in bfloat16 on a TPU, in tensorfloat32 on a GPU), high or "
    "tensorfloat32, highest or float32. A CPU always takes float32. Default: what "
    "$JAX_DEFAULT_MATMUL_PRECISION says, or else default.",
)
_FEATURE_DTYPE = flags.DEFINE_enum(
    "feature_dtype", "bfloat16", DTYPES, "How the encoder's stages are stored."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder for results; started again, a run finishes what is missing. Default: runs/PROGRAM.",
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Folder that keeps the encoder's stages for later runs. Default: they are deleted when their "
    "encoder is done.",
)
_CACHE_LIMIT_GB = flags.DEFINE_float(
    "cache_limit_gb",
    None,
    "Most room that the encoder's stages may take on disk, in GB (1e9 bytes), counted with all "
    "that --cache_dir holds; stages that do not fit are encoded anew for each batch, with the same "
    "results (0: all of them). Default: no limit.",
)
_COMPILE_CACHE = flags.DEFINE_string(
    "compile_cache",
    None,
    "Folder that keeps compiled programs, so that later runs need not compile them; empty to keep "
    "none. Default: posjax/compiled in $XDG_CACHE_HOME or ~/.cache, unless "
    "$JAX_COMPILATION_CACHE_DIR names another.",
)
_DEVICES = flags.DEFINE_integer(
    "devices",
    0,
    "Number of local devices to use, 0 for all; on a CPU, so many virtual devices are made.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT of process 0 where several hosts work on one run, or auto where the cluster tells "
    "it (SLURM, Cloud TPU, Open MPI). Every host gets the same flags. Default: one host.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Number of hosts. Default: what the cluster says."
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id",
    None,
    "Number of this host, from 0, whose --workdir is the run's. Default: what the cluster says.",
)


def show_in_help() -> None:
    """Makes --help of the program that was started show these flags."""
    for flag in flags.FLAGS.get_flags_for_module(__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def settings(program: str, paper: Mapping[str, Any], demonstration: Mapping[str, Any]) -> Settings:
    """The settings that the flags describe; `program` names the default workdir.

    `paper` and `demonstration` are what the program takes where a flag is not given.

    Raises:
        ValueError: a value that cannot run; names its flag.
    """
    quiet = not flags.FLAGS["verbosity"].present
    start(_DEVICES.value, _COMPILE_CACHE.value, precision=_PRECISION.value, quiet=quiet)
    asked = any(flag.value is not None for flag in (_ENCODER, _WEIGHTS, _IMAGES))
    default = PAPER | paper if asked else DEMONSTRATION | demonstration
    for flag in (_WEIGHTS, _IMAGES):
        if flag.value is not None and not all(flag.value or [""]):
            raise ValueError(f"--{flag.name} is empty: give a value, or leave it out")
    weights = tuple(map(os.path.expanduser, _WEIGHTS.value or [RANDOM]))

    def value(flag: flags.FlagHolder) -> Any:
        return flag.value if flag.present else default.get(flag.name, flag.value)

    chosen = Settings(
        encoder=tuple(value(_ENCODER)),
        weights=weights,
        paddings=tuple(value(_PADDINGS)),
        pool_padding=_POOL_PADDING.value,
        stages=tuple(value(_STAGES)),
        maps=tuple(value(_MAPS)),
        depths=integers("depths", value(_DEPTHS)),
        kernel_sizes=integers("kernel_sizes", value(_KERNEL_SIZES)),
        readout_paddings=integers("readout_paddings", value(_READOUT_PADDINGS)),
        one_at_a_time=value(_ONE_AT_A_TIME),
        seeds=integers("seeds", value(_SEEDS)),
        solver=_SOLVER.value,
        controls=_controls(weights, demonstration=not asked),
        images=_IMAGES.value or "dead_leaves",
        test_images=tuple(value(_TEST_IMAGES)),
        num_train=_NUM_TRAIN.value,
        num_test=_NUM_TEST.value,
        endless_train=default["endless_train"],
        endless_test=default["endless_test"],
        image_size=value(_IMAGE_SIZE),
        normalize=_NORMALIZE.value,
        skip_bad_images=_SKIP_BAD_IMAGES.value,
        manual_dir=Path(_MANUAL_DIR.value).expanduser() if _MANUAL_DIR.value else None,
        batch_size=value(_BATCH_SIZE),
        epochs=value(_EPOCHS),
        learning_rate=_LEARNING_RATE.value,
        dtype=_DTYPE.value,
        feature_dtype=_FEATURE_DTYPE.value,
        workdir=Path(_WORKDIR.value or f"runs/{program}").expanduser(),
        cache_dir=Path(_CACHE_DIR.value).expanduser() if _CACHE_DIR.value else None,
        cache_limit_gb=_CACHE_LIMIT_GB.value,
        devices=_DEVICES.value,
        coordinator_address=_COORDINATOR_ADDRESS.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
    )
    for flag in (_EPOCHS, _LEARNING_RATE, _SEEDS):
        if flag.present and flag.name in chosen.unused():
            raise ValueError(
                f"--{flag.name} means nothing to --solver={chosen.solver}"
                f"{' with weights that are not random' if flag is _SEEDS else ''}: leave it out"
            )
    return chosen


def _controls(weights: tuple[str, ...], *, demonstration: bool) -> tuple[str, ...]:
    if _CONTROLS.value is not None:
        return () if _CONTROLS.value == ["none"] else tuple(_CONTROLS.value)
    vacuous = {
        "random": RANDOM in weights,
        "floor": _SOLVER.value == "ridge",
        "roll": demonstration,
    }
    return tuple(name for name in CONTROLS if not vacuous.get(name))


def integers(flag: str, values: Iterable[str | int]) -> tuple[int, ...]:
    """The whole numbers that a flag lists.

    Raises:
        ValueError: something else is among them; names the flag.
    """
    try:
        return tuple(map(int, values))
    except ValueError as error:
        raise ValueError(f"--{flag} needs whole numbers, found {list(values)}") from error
