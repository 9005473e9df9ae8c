"""The scores of readouts on single images."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of r readouts on each of n test images. SPC is NaN where it is undefined.

    `ring_spc` and `ring_mae` are those of the 14 rings around the centre, from the border inwards.
    `error` is the mean absolute error over the images in 28 x 28 cells, see `probes.profiles`. The
    three are None where maps are too small for them.
    """

    spc: Float[np.ndarray, "r n"]
    mae: Float[np.ndarray, "r n"]
    ring_spc: Float[np.ndarray, "r n 14"] | None = None
    ring_mae: Float[np.ndarray, "r n 14"] | None = None
    error: Float[np.ndarray, "r 28 28"] | None = None


@dataclasses.dataclass(frozen=True)
class PenaltyPath:
    """How each of r penalties was chosen: the p that were tried, and their held-out errors."""

    penalties: Float[np.ndarray, " p"]
    held_out: Float[np.ndarray, "p r"]
    chosen: Float[np.ndarray, " r"]
