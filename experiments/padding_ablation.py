"""How much position does each padding mode put into an encoder?

With no flags: a random VGG on generated images, offline, in two minutes on two cores.
"""

import sys

from absl import app, logging
from absl import flags as absl_flags

from experiments import flags
from posjax import runs

absl_flags.adopt_module_key_flags(flags)  # shows them under --help


def main(argv: list[str]) -> None:
    """Runs the experiment that the flags describe."""
    if len(argv) > 1:
        sys.exit(f"error: what is {' '.join(argv[1:])}? Values of flags follow '=' or a space")
    try:
        runs.run(flags.settings("padding_ablation"), title="Padding ablation")
    except (ValueError, OSError, FloatingPointError) as error:
        logging.debug("where it happened", exc_info=True)  # shown with --verbosity=1
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
