"""What programs have in common: flags become a run."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from absl import app, logging

from experiments import flags
from posjax import runs


def main(
    program: str,
    title: str,
    paper: Mapping[str, Any] | None = None,
    demonstration: Mapping[str, Any] | None = None,
    run: Callable = runs.run,
) -> None:
    """Runs the experiment that the flags describe, and ends the process.

    `paper` and `demonstration` are the program's own defaults, by flag: with --encoder, --weights
    or --images, and without any of them.
    """
    flags.show_in_help()
    guarded(lambda: run(flags.settings(program, paper or {}, demonstration or {}), title=title))


def guarded(run: Callable[[], object]) -> None:
    """Parses the flags, runs, and ends the process: with one line where the input is bad."""

    def start(argv: list[str]) -> None:
        if len(argv) > 1:
            sys.exit(f"error: what is {' '.join(argv[1:])}? Values of flags follow '=' or a space")
        try:
            run()
        except (ValueError, OSError, FloatingPointError) as error:
            logging.debug("where it happened", exc_info=True)  # shown with --verbosity=1
            sys.exit(f"error: {error}")

    app.run(start)
