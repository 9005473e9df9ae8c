"""Dead leaves: procedural images with the edges, occlusions and 1/f spectrum of natural ones."""

import numpy as np
from jaxtyping import Float, Float32, Int

SMALLEST_RADIUS = 1 / 200
LARGEST_RADIUS = 1 / 2
VERSION = "dead_leaves 2"

# Leaves in the first layer; the stream of random numbers, hence the images, depends on it.
_FIRST_LAYER = 4096


def dead_leaves(size: int, rng: np.random.Generator) -> Float[np.ndarray, "size size 3"]:
    """One image of size × size pixels, float32 RGB in [0, 1].

    Opaque discs are laid from the front to the back, each showing only where nothing lies yet,
    until every pixel is covered: the heap of falling discs seen from above. Radii follow the scale
    invariant power law p(r) ∝ r⁻³ between `SMALLEST_RADIUS` and `LARGEST_RADIUS` (fractions of the
    image's side), colours are uniform in the RGB cube, centres uniform over the frame enlarged on
    every side by the largest radius, so that no position in the frame differs from another. The
    power spectrum falls about as f⁻². Edges are not smoothed.

    Source: Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 41, 2001, after
    Matheron, "Modèle séquentiel de partition aléatoire", 1968.
    """
    image = np.empty((size * size, 3), np.float32)
    bare = np.ones(size * size, bool)
    layer = _FIRST_LAYER
    while bare.any():
        radii, centres, colours = draw_leaves(layer, size, rng)
        leaf, first, after = _spans(radii, centres, size)
        # Near the end hardly any span holds a bare pixel. Running sums count them.
        sums = np.concatenate([[0], np.cumsum(bare)])
        kept = sums[after] > sums[first]
        span, pixel = _ranges(first[kept], after[kept])
        front = np.full(size * size, layer)
        np.minimum.at(front, pixel, leaf[kept][span])
        painted = np.flatnonzero(bare & (front < layer))
        image[painted] = colours[front[painted]]
        bare[painted] = False
        # The fewer pixels are left, the fewer spans reach one: larger layers cost little more.
        layer *= 2
    return image.reshape(size, size, 3)


def draw_leaves(
    count: int, size: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 2"], Float32[np.ndarray, "n 3"]]:
    """Radii (by inversion of their distribution), (y, x) centres, both in pixels, and colours."""
    many, few = SMALLEST_RADIUS**-2, LARGEST_RADIUS**-2
    radii = size * (many - rng.random(count) * (many - few)) ** -0.5
    margin = size * LARGEST_RADIUS
    centres = rng.random((count, 2)) * (size + 2 * margin) - margin
    return radii, centres, rng.random((count, 3), dtype=np.float32)


def _spans(
    radii: Float[np.ndarray, "n"], centres: Float[np.ndarray, "n 2"], size: int
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """Cuts leaves into rows: the leaf, and the first and after-last pixel (y · size + x) of each.

    A pixel belongs to a leaf that holds its centre, which lies at (y + ½, x + ½).
    """
    y, x = centres.T
    top, bottom = _covered(y, radii, size)
    leaf, row = _ranges(top, bottom)
    # Rounding may put the outermost row a hair outside the disc.
    chord = np.sqrt(np.maximum(np.square(radii[leaf]) - np.square(row + 0.5 - y[leaf]), 0))
    first, after = _covered(x[leaf], chord, size)
    return leaf, row * size + first, row * size + after


def _covered(
    middle: Float[np.ndarray, "n"], reach: Float[np.ndarray, "n"], size: int
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """First and after-last of the pixels 0 … size − 1 whose centres lie within middle ± reach."""
    first = np.clip(np.ceil(middle - reach - 0.5), 0, size).astype(np.int64)
    after = np.clip(np.floor(middle + reach + 0.5), 0, size).astype(np.int64)
    return first, np.maximum(first, after)


def _ranges(
    first: Int[np.ndarray, "n"], after: Int[np.ndarray, "n"]
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """All numbers of the ranges first … after − 1, each behind the index of its range."""
    lengths = after - first
    owner = np.repeat(np.arange(len(first)), lengths)
    return owner, np.arange(len(owner)) + np.repeat(after - np.cumsum(lengths), lengths)
