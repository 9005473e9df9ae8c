"""Position maps: content-free targets that say where a pixel is."""

import numpy as np
from jaxtyping import Float

MAPS = ("H", "V", "G", "HS", "VS")
PERIODS = 2.5
PHASE = 1.60


def position_map(name: str, size: int | tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """The position map `name` at `size` = side or (height, width) pixels, float32 in [0, 1].

    H grows from left to right and V from top to bottom. G is a Gaussian about the centre, with a
    standard deviation of half the side, rescaled to [0, 1]. HS and VS are horizontal and vertical
    stripes: two and a half periods of a sine along y and along x. Section 3.1 of the paper; the
    constants are fits to the maps that its authors released (256 x 256, 8 bit): H, V and G agree
    within 1/255, the stripes within 4/255.

    Raises:
        ValueError: an unknown name, or a side under 2 pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 2:
        raise ValueError(f"a position map needs 2 pixels a side or more, not {height}x{width}")
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    if name == "H":
        values = x / (width - 1)
    elif name == "V":
        values = y / (height - 1)
    elif name == "G":
        distance = ((y - height / 2) / (height / 2)) ** 2 + ((x - width / 2) / (width / 2)) ** 2
        gaussian = np.exp(-distance / 2)
        values = (gaussian - gaussian.min()) / np.ptp(gaussian)
    elif name in ("HS", "VS"):
        along = y / height if name == "HS" else x / width
        values = 0.5 + 0.5 * np.sin(2 * np.pi * PERIODS * along + PHASE)
    else:
        raise ValueError(f"position map {name!r} is unknown; expected one of {', '.join(MAPS)}")
    return np.broadcast_to(values, (height, width)).astype(np.float32)
