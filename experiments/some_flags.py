"""Programs that take some of the flags that all experiments share, with words of their own."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments import flags as common
from experiments.compilation import start

Words = Mapping[str, tuple[Any, str]]
"""By flag: its default, and what --help says of it."""

SHARED: Words = {
    "manual_dir": (None, "Folder of archives for tfds: that were downloaded by hand."),
    "devices": (0, "Number of local devices, 0 for all; on a CPU, so many virtual ones are made."),
    "compile_cache": (None, "Folder of compiled programs; empty to keep none."),
    "precision": (None, "How TPUs and GPUs multiply float32: default, high or highest."),
}


def adapt(words: Words, own: Iterable[str]) -> None:
    """Gives shared flags these defaults and words, and shows them and a program's own in --help."""
    for name, (default, text) in words.items():
        flags.FLAGS.set_default(name, default)
        flags.FLAGS[name].help = text
    for name in (*words, *own):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def read(program: str, subject: str, names: Iterable[str]) -> dict[str, Any]:
    """The values of these flags; starts JAX as they say, see `start`. Folders are paths.

    `program` names the default workdir, and `subject` is told where another flag means nothing.

    Raises:
        ValueError: a shared flag that is none of them was given.
    """
    flag = {name: flags.FLAGS[name].value for name in names}
    shared = flags.FLAGS.flags_by_module_dict()[common.__name__]
    foreign = {f.name for f in shared if f.present} - flag.keys()
    if foreign:
        raise ValueError(f"--{min(foreign)} means nothing to {subject}")
    quiet = not flags.FLAGS["verbosity"].present
    how = {"precision": flag.pop("precision"), "quiet": quiet}
    start(flag["devices"], flag.pop("compile_cache"), **how)
    flag["workdir"] = Path(flag["workdir"] or f"runs/{program}").expanduser()
    flag["manual_dir"] = Path(flag["manual_dir"]).expanduser() if flag["manual_dir"] else None
    return flag
