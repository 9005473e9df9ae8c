"""What programs have in common: flags become settings, and settings a run."""

import io
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import app, logging

from experiments import flags
from experiments.start import Machine, start
from posjax import runs, training
from posjax.runs.conditions import controls_that_apply, default_paddings

CHOOSES_PAPER = ("encoder", "weights", "images")
"""Whoever gives one of these flags gets the paper's recipe, unless --preset says otherwise."""


def main(
    program: str,
    title: str,
    *,
    paper: Mapping[str, Any] = {},
    demo: Mapping[str, Any] = {},
    run: Callable = runs.run,
) -> None:
    """Runs the experiment that the flags describe, and ends the process.

    `paper` and `demo` are the program's own defaults, by setting, under the two presets.
    """

    flags.define(runs.Settings, paper, demo)
    start_program(lambda: run(_read(program, paper, demo), title=title))


def _read(program: str, paper: Mapping[str, Any], demo: Mapping[str, Any]) -> runs.Settings:
    given = flags.given(runs.Settings)
    if "preset" not in given:
        chosen = any(name in given for name in CHOOSES_PAPER)
        given["preset"] = "paper" if chosen else "demo"
    is_demo = given["preset"] == "demo"
    values = {"workdir": Path(f"runs/{program}"), **(demo if is_demo else paper), **given}
    if "paddings" not in values:
        values["paddings"] = default_paddings(values.get("encoder", ()))
    values.setdefault("controls", controls_that_apply(values))
    if values["controls"] == ("none",):
        values["controls"] = ()
    settings = flags.build(runs.Settings, values, is_demo)
    unused = sorted(given.keys() & set(settings.unused()))
    if unused:
        raise ValueError(
            f"{unused[0]} means nothing to solver={settings.solver} with these encoders and "
            "weights: leave it out"
        )
    return settings


def train(
    program: str,
    settings: type[training.TrainingSettings],
    task: type[training.Task],
    defaults: Mapping[str, Any] = {},
) -> None:
    """Trains the networks that the flags describe, and ends the process.

    `defaults` are those of the program, by setting.
    """
    flags.define(settings, defaults, defaults)
    start_program(lambda: training.run(task.open(flags.read(settings, program, defaults))))


def start_program(run: Callable[..., object], *, takes_names: bool = False) -> None:
    """Parses the flags, starts JAX, runs, and ends the process.

    `run` gets what stands behind the flags, where the program `takes_names`. Bad input ends it with
    one line, in which the names of arguments are those of flags.
    """
    # Help and errors of libraries show escapes for what the terminal lacks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    flags.define(Machine, {}, {})

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1 and not takes_names:
            sys.exit(f"error: what is {' '.join(argv[1:])}? Values of flags follow '=' or a space")
        try:
            machine = flags.build(Machine, flags.given(Machine))
            start(machine, devices=flags.devices(), quiet=not flags.verbose())
            run(*argv[1:])
        except (ValueError, OSError, FloatingPointError) as error:
            logging.debug("where it happened", exc_info=True)  # shown with --verbosity=1
            sys.exit(f"error: {with_flags(str(error), flags.names())}")
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            # What JAX reports when a device or the machine has no memory left.
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            logging.debug("where it happened", exc_info=True)
            names = [name for name in _SIZES if name in flags.names()]
            reason = str(error).partition("\n")[0].rstrip(".") or "no memory is left"
            sys.exit(f"error: {reason}: make --{', --'.join(names)} smaller")

    app.run(guarded)


_SIZES = ("batch_size", "image_size", "num_train")


def with_flags(message: str, names: list[str]) -> str:
    """A message in which arguments of these names are written as flags: `--maps: 'X' is unknown`.

    A name is an argument where the message begins with it, or where `=` or "was" follows it.
    """
    name = rf"({'|'.join(map(re.escape, names))})"
    message = re.sub(rf"^{name}\b(?!-)", r"--\1", message)
    return re.sub(rf"(?<![\w./-]){name}(?==| was )", r"--\1", message)
