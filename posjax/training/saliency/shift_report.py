"""What is left of moved crops: a table with intervals, and a picture."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from posjax.results.intervals import bootstrap_mean
from posjax.training.saliency.shift import DIRECTIONS, FIGURES

# `undefined` counts seeds x images x directions.
COLUMNS = ("encoder", "padding", "figure", "value", "low", "high", "seeds", "images", "undefined")


def table_rows(
    encoder: str, padding: str, figures: dict[str, Float[np.ndarray, "seeds images directions"]]
) -> list[tuple]:
    """The rows of networks that differ in their seed alone, one for each figure."""
    rows = []
    for name, values in figures.items():
        undefined = np.isnan(values)
        known = np.sum(~undefined, axis=2)
        means = np.where(known, np.nansum(values, axis=2) / np.maximum(known, 1), np.nan)
        interval = bootstrap_mean(means) or (np.nan,) * 3
        counts = (*values.shape[:2], int(undefined.sum()))
        rows.append((encoder, padding, name, *(f"{v:.4f}" for v in interval), *counts))
    return rows


def as_text(rows: Sequence[tuple], step: int) -> str:
    """The table, with what it means above it."""
    cells: dict[str, str] = {"(seeds x images)": "".join(f"{name:>44}" for name in FIGURES)}
    for encoder, padding, _, value, low, high, seeds, images, undefined in rows:
        label = f"{encoder} {padding} ({seeds} x {images})"
        pairs = seeds * images * len(DIRECTIONS)
        lost = f" {undefined} of {pairs} undefined" if undefined else ""
        cells[label] = cells.get(label, "") + f"{f'{value} [{low}, {high}]{lost}':>44}"
    meaning = (
        f"crops moved by {step} pixels: which part of the way the prediction goes with them, 0 "
        "where it stays with the content. A peak that stays in the frame has 1, a centre of "
        "mass less: it is that of what both crops show. Undefined where either shows nothing "
        "salient: such pairs are left out, which may be others for each padding mode"
    )
    return "\n".join([meaning, *(f"{label:44}{cell}" for label, cell in cells.items())])


def picture(
    images: Float[np.ndarray, "n s s 3"], maps: dict[str, np.ndarray], size: int, step: int
) -> bytes:
    """Each image, and below each other what the networks predict for five crops of it."""
    # Its import takes a while. A program's help need not wait for that.
    from matplotlib.figure import Figure

    titles = ("middle", "up", "down", "left", "right")
    offsets = ((0, 0), *DIRECTIONS)
    rows = [(image, mode) for image in range(len(images)) for mode in ("", *maps)]
    figure = Figure(figsize=(1.3 * len(titles) + 1, 1.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (image, mode) in zip(axes, rows, strict=True):
        line[0].set_ylabel("\n".join(mode.split()) or "image")
        for place, (axis, (down, right)) in enumerate(zip(line, offsets, strict=True)):
            axis.set(xticks=(), yticks=())
            top, left = step * (1 + down), step * (1 + right)
            crop = images[image, top : top + size, left : left + size]
            shown = maps[mode][image, place] if mode else crop
            axis.imshow(shown, cmap="gray", vmin=0, vmax=1)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=60)
    return content.getvalue()
