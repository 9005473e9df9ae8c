"""The flags of the program that measures the saliency of crops."""

import glob
import sys
from pathlib import Path

from absl import flags

from experiments import flags as common
from experiments.compilation import start
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
    "manual_dir": (None, "Folder of archives for tfds: that were downloaded by hand."),
    "devices": (0, "Number of local devices, 0 for all; on a CPU, so many virtual ones are made."),
    "compile_cache": (None, "Folder of compiled programs; empty to keep none."),
}


def adapt() -> None:
    """Gives the flags that all experiments share the defaults and words of this program."""
    for name, (default, text) in _SHARED.items():
        flags.FLAGS.set_default(name, default)
        flags.FLAGS[name].help = text
    for name in (*_SHARED, _NETWORKS.name, _STEP.name):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def settings(program: str) -> ShiftSettings:
    """The settings that the flags describe; `program` names the default workdir.

    Raises:
        ValueError: a value that cannot run, or one that is missing; names its flag.
    """
    flag = {name: flags.FLAGS[name].value for name in _SHARED}
    foreign = {
        f.name for f in flags.FLAGS.flags_by_module_dict()[common.__name__] if f.present
    } - flag.keys()
    if foreign:
        raise ValueError(f"--{min(foreign)} means nothing to the saliency of crops")
    start(flag["devices"], flag.pop("compile_cache"), quiet=not flags.FLAGS["verbosity"].present)
    if not flag["images"]:
        raise ValueError("--images is needed: a folder of images, or tfds:NAME[:SPLIT]")
    files = []
    for pattern in _NETWORKS.value or ():
        found = sorted(glob.glob(str(Path(pattern).expanduser())))
        if not found:
            raise ValueError(f"--networks={pattern}: no such file")
        files += map(Path, found)
    return ShiftSettings(
        **flag
        | {
            "networks": tuple(files),
            "step": _STEP.value,
            "workdir": Path(flag["workdir"] or f"runs/{program}").expanduser(),
            "manual_dir": Path(flag["manual_dir"]).expanduser() if flag["manual_dir"] else None,
        }
    )
