"""Small sets of labelled images: flat colours of two classes, with noise."""

import numpy as np
from PIL import Image

CLASSES = ("blue", "red")


def write_images(folder, count=24, side=12, seed=0):
    """Writes class folders of `count` images each."""
    rng = np.random.default_rng(seed)
    for channel, name in ((2, "blue"), (0, "red")):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 120, (side, side, 3)).astype(np.uint8)
            image[..., channel] += 80
            Image.fromarray(image).save(folder / name / f"{i:03}.png")
    return folder
