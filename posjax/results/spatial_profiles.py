"""Where in the image readouts are right: profiles towards the border, and maps of the error."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from posjax.results.intervals import bootstrap_rings
from posjax.results.records import Key, ProbeSpec, Result, readouts


@dataclasses.dataclass(frozen=True)
class Profile:
    """A probe and position map on one set of test images, ring by ring from the border inwards.

    `spc` and `mae` are means over seeds and images with their 95 % intervals (mean, low, high);
    `error` is the mean absolute error in 28 x 28 cells.
    """

    probe: ProbeSpec
    map: str
    test_images: str
    spc: Float[np.ndarray, "3 14"]
    mae: Float[np.ndarray, "3 14"]
    error: Float[np.ndarray, "28 28"]


def profiles(results: Iterable[Result]) -> list[Profile]:
    """Profiles over seeds of what is no control, in the order in which they first appear.

    Results whose maps are too small for a profile are left out.
    """
    groups: dict[Key, list[tuple[np.ndarray, ...]]] = {}
    for key, _, i, scores in readouts(results):
        spc, mae, error = scores.ring_spc, scores.ring_mae, scores.error
        if spc is None or mae is None or error is None or key[0].control:
            continue
        groups.setdefault(key, []).append((spc[i], mae[i], error[i]))
    profiles = []
    for key, seeds in groups.items():
        spc, mae, error = (np.stack(parts) for parts in zip(*seeds, strict=True))
        profiles.append(
            Profile(*key, bootstrap_rings(spc), bootstrap_rings(mae), error.mean(axis=0))
        )
    return profiles
