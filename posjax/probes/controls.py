"""Control tasks: what a readout draws where the features carry no position.

A readout that draws a position map well may do so because the features carry position, or because
it can learn any map. Hewitt and Liang 2019 (arXiv 1909.03368) train the same readout on targets
that have nothing to do with the question, and call the difference selectivity.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from posjax.probes.position_maps import MAPS, position_map

SHUFFLED, SMOOTH, IMAGE_SHUFFLED = "shuffled_map", "smooth_map", "image_shuffled_maps"
SELECTIVITY = (SHUFFLED, SMOOTH)
SEED = 20200430  # of all control maps, in every run
TRAINING, TESTING = 0, 1  # streams of permutations: training and test images share none
ORDERS = 1024  # of image_shuffled_maps: more than a readout could learn, few enough to keep


@dataclasses.dataclass(frozen=True)
class Task:
    """What a readout is to draw: a position map (`control` is empty), or a control made of it.

    `shuffled_map`: the map's pixels in one random order, the same for every image. `smooth_map`: a
    random map with as much power at every frequency as the map, in any direction, the same for
    every image; it has nothing in common with the five position maps. `image_shuffled_maps`: the
    map's pixels in another random order for every image, which nothing can predict: the floor.
    """

    map: str
    control: str = ""


def task_map(task: Task, size: int | tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """The map that a task shows every image, float32 in [0, 1].

    Of `image_shuffled_maps` it is the map before it is shuffled. A smooth map is drawn in the
    cosine transform (type II, whose mirrored ends need no jump), with the power that the position
    map has at each distance from frequency 0. Its projection on the five position maps is then
    subtracted, and the rest scaled to [0, 1].

    Raises:
        ValueError: an unknown map or control.
    """
    values = position_map(task.map, size)
    if task.control in ("", IMAGE_SHUFFLED):
        return values
    rng = np.random.default_rng((SEED, MAPS.index(task.map)))
    if task.control == SHUFFLED:
        return rng.permutation(values.ravel()).reshape(values.shape)
    if task.control == SMOOTH:
        return _smooth(values, rng)
    known = ", ".join((SHUFFLED, SMOOTH, IMAGE_SHUFFLED))
    raise ValueError(f"control {task.control!r} is unknown; expected one of {known}")


def image_permutation(pixels: int, stream: int, index: int) -> Int[np.ndarray, " pixels"]:
    """The order in which `image_shuffled_maps` puts a map's pixels for image number `index`.

    Pixel i of the map goes to pixel `permutation[i]` of the target. Each of the two streams has
    1024 orders; more images share them.
    """
    return np.random.default_rng((SEED, stream, index % ORDERS)).permutation(pixels)


def _smooth(values: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    # Its import takes a while. A program's help need not wait for that.
    from scipy.fft import dctn, idctn

    power = np.square(np.asarray(dctn(values.astype(np.float64), norm="ortho")))
    down, right = np.indices(values.shape)
    distance = np.rint(np.hypot(down, right)).astype(int)
    mean_power = np.bincount(distance.flat, power.flat) / np.bincount(distance.flat)
    mean_power[0] = 0
    spectrum = rng.standard_normal(values.shape) * np.sqrt(mean_power[distance])
    drawn = np.asarray(idctn(spectrum, norm="ortho")).ravel()
    maps = np.stack([position_map(name, values.shape).ravel() for name in MAPS], axis=1)
    maps = maps - maps.mean(axis=0, dtype=np.float64)
    rest = drawn - maps @ np.linalg.lstsq(maps, drawn, rcond=None)[0]
    return ((rest - rest.min()) / np.ptp(rest)).astype(np.float32).reshape(values.shape)
