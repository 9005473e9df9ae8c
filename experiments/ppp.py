"""What does padding add to the features, on average over images? PPP, beside PosENet.

    python -m experiments.ppp

With no flags: a small random VGG on generated images, offline, in a minute on two cores. Expect a
strength above 0 under every mode that pads, and 0 under valid.
"""

from experiments.program import main
from posjax.ppp import run

_DEMO = {"default_num_train": 20, "default_num_test": 12}

if __name__ == "__main__":
    main("ppp", "Position-information pattern from padding", demo=_DEMO, run=run)
