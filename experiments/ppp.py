"""What does padding add to the features, on average over images? PPP, beside PosENet.

With no flags: a random VGG-11 on generated images, offline, in minutes on two cores.
"""

from experiments.program import main
from posjax.runs.ppp import run

# No smaller images: without padding VGG-11 needs 134 pixels.
_DEMONSTRATION = {"endless_train": 20, "endless_test": 12}

if __name__ == "__main__":
    main(
        "ppp",
        "Position-information pattern from padding",
        demonstration=_DEMONSTRATION,
        run=run,
    )
