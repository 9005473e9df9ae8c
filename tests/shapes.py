"""Small sets of salient discs: told apart from others by their place, or by their colour."""

import numpy as np
from PIL import Image

SIDE = 64


def write_shapes(folder, count, *, by_place, seed=0):
    """Writes `images` and `masks` of `count` pairs, each image with two discs in noise.

    The upper half of each image holds one disc and the lower half the other. By place, both are
    alike and the upper one is salient; by colour, the red one, wherever it is.
    """
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        image = rng.integers(0, 60, (SIDE, SIDE, 3))
        red = rng.integers(2)
        for half in (0, 1):
            disc = _disc(rng, half)
            colour = (160, 160, 160) if by_place else ((200, 80, 80), (80, 80, 200))[half ^ red]
            image[disc] += np.array(colour)
            if half == (0 if by_place else red):
                Image.fromarray(disc.astype(np.uint8) * 255).save(folder / "masks" / f"{i:03}.png")
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(
            folder / "images" / f"{i:03}.png"
        )
    return folder


def _disc(rng, half):
    # Half a side of 64 is twice VGG's total stride: its pools see no half unlike the other.
    row, column = rng.integers(8, 24) + half * SIDE // 2, rng.integers(0, SIDE)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    # Behind the left border it comes in from the right: no column is unlike another.
    across = np.minimum(abs(columns - column), SIDE - abs(columns - column))
    return (rows - row) ** 2 + across**2 <= 36
