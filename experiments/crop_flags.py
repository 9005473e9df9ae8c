"""The flags of the program that measures the saliency of crops."""

import glob
from pathlib import Path

from absl import flags

from experiments import some_flags
from posjax.training.crop_shift import ShiftSettings

_NETWORKS = flags.DEFINE_list(
    "networks", None, "Files network.safetensors that train_dense left; * stands for any. Required."
)
_STEP = flags.DEFINE_integer(
    "step",
    16,
    "How far a crop is moved, pixels: a multiple of the encoder's total stride (16 for VGG), for "
    "else its pools see other pixels together.",
)
_SHARED = {
    "images": (None, "Folder of images, or tfds:NAME[:SPLIT]. Required."),
    "num_train": (0, "Images to leave out: the first by name, which the networks were trained on."),
    "num_test": (None, "Number of images behind those. Default: all."),
    "batch_size": (16, "Images at a time, over all devices."),
    "workdir": (None, "Folder for the table and the picture. Default: runs/PROGRAM."),
    **some_flags.SHARED,
}


def adapt() -> None:
    """Gives the flags that all experiments share the defaults and words of this program."""
    some_flags.adapt(_SHARED, (_NETWORKS.name, _STEP.name))


def settings(program: str) -> ShiftSettings:
    """The settings that the flags describe; `program` names the default workdir.

    Raises:
        ValueError: a value that cannot run, or one that is missing; names its flag.
    """
    flag = some_flags.read(program, "the saliency of crops", _SHARED)
    if not flag["images"]:
        raise ValueError("--images is needed: a folder of images, or tfds:NAME[:SPLIT]")
    files = []
    for pattern in _NETWORKS.value or ():
        found = sorted(glob.glob(str(Path(pattern).expanduser())))
        if not found:
            raise ValueError(f"--networks={pattern}: no such file")
        files += map(Path, found)
    return ShiftSettings(**flag, networks=tuple(files), step=_STEP.value)
