"""Figure 1 of the paper, measured: does predicted saliency stay with the content or the frame?"""

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from posjax import encoders
from posjax.images import Kept, Source, batches, open_source, select
from posjax.runs import image_sets, parallel
from posjax.runs.bootstrap import bootstrap_mean
from posjax.runs.frozen import normalised
from posjax.runs.records import write_atomically, write_rows
from posjax.runs.settings import check_least
from posjax.runs.workdir import Workdir, describe_devices
from posjax.training.dense import load_network

DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
FIGURES = ("peak", "mass")
# `undefined` counts seeds x images x directions.
COLUMNS = ("encoder", "padding", "figure", "value", "low", "high", "seeds", "images", "undefined")
SHOWN = 4  # images in the picture
TABLE = "crop_shift.csv"
PICTURE = "crop_shift.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftSettings:
    """Networks of `train_dense`, and the images whose crops they see.

    `step` is how many pixels a crop is moved. The first `num_train` images, in the order of their
    names, are left out: the networks were trained on them.
    """

    networks: tuple[Path, ...]
    images: str
    num_train: int = 0
    num_test: int | None = None
    step: int = 16
    batch_size: int = 16
    workdir: Path
    manual_dir: Path | None = None
    devices: int = 0

    def science(self) -> dict[str, Any]:
        """What determines the results; the networks and images have digests."""
        elsewhere = ("networks", "workdir", "manual_dir", "devices", "batch_size")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in elsewhere}

    def __post_init__(self):
        """Raises ValueError for what cannot run; names the flag."""
        if not self.networks:
            raise ValueError("--networks is needed: files network.safetensors of train_dense")
        for name, least in (("num_train", 0), ("step", 1), ("batch_size", 1), ("devices", 0)):
            check_least(name, least, getattr(self, name))
        if self.num_test is not None:
            check_least("num_test", 1, self.num_test)


def run(settings: ShiftSettings, *, say: Callable[[str], None] = print) -> None:
    """Measures all networks and writes crop_shift.csv and crop_shift.png into the workdir.

    Raises:
        ValueError, FileNotFoundError: a network or an image cannot be read; networks that are not
            of one training under several padding modes and seeds, or predict what is no number; a
            step that is no multiple of an encoder's total stride; no image is left; a workdir of
            another run.
    """
    devices = parallel.local_devices(settings.devices)
    networks = {}
    for path in dict.fromkeys(settings.networks):
        network, variables, about = load_network(path)
        recipe = json.loads(about.pop("recipe"))
        key = (about.pop("encoder"), about.pop("padding"), recipe.pop("seed"))
        if key in networks:
            raise ValueError(f"--networks: two are of {key[0]} under {key[1]}, seed {key[2]}")
        networks[key] = (network, variables, about | {"recipe": json.dumps(recipe)})
    size, normalize = _common_training(networks)
    for name, padding, _ in networks:
        stride = max(s.stride for s in encoders.create(name, padding).lattice().values())
        if settings.step % stride:
            raise ValueError(
                f"--step={settings.step} must be a multiple of {stride}, the total stride of {name}"
            )
    source = _images(settings, size)
    digests = {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in settings.networks}
    Workdir(settings.workdir).claim(
        settings.science(),
        {
            "weight_digests": digests,
            "image_digests": {"images": source.digest()},
            "devices": describe_devices(devices),
        },
    )
    side = size + 2 * settings.step
    source = Kept(source, side, image_sets.place({side: len(source)}, settings.workdir))
    found: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    pictures: dict[str, np.ndarray] = {}
    for (name, padding, seed), (network, variables, _) in networks.items():
        say(f"{name} {padding} seed {seed}: {len(source)} images")
        measure = _measure(network, normalize, size, settings.step, tuple(devices))
        copies = parallel.replicate(variables, devices)
        parts = []
        for images in batches(source, settings.batch_size):
            shards, _ = parallel.split(images, settings.batch_size, devices)
            part = parallel.join(measure(copies, shards), len(images))
            maps = part.pop("maps")
            if not np.isfinite(maps).all():
                raise ValueError(
                    f"--networks: {name} {padding} seed {seed} predicts NaN or infinity"
                )
            pictures.setdefault(f"{name} {padding}", maps[:SHOWN])
            parts.append(part)
        whole = {figure: np.concatenate([part[figure] for part in parts]) for figure in FIGURES}
        found.setdefault((name, padding), []).append(whole)
    rows = [row for name, group in found.items() for row in _rows(*name, group)]
    write_rows(settings.workdir / TABLE, COLUMNS, rows)
    count = min(len(maps) for maps in pictures.values())
    shown = np.stack([source[index] for index in range(count)])
    write_atomically(settings.workdir / PICTURE, _picture(shown, pictures, size, settings.step))
    say(_as_text(rows, settings.step))
    say(f"{settings.workdir / TABLE}, {settings.workdir / PICTURE}")


def _common_training(networks: Mapping[Any, tuple[Any, Any, dict[str, str]]]) -> tuple[int, str]:
    """The size of the images and their statistics, that all networks were trained with."""
    abouts = [about for _, _, about in networks.values()]
    for name in ("image_size", "normalize", "recipe", "weights"):
        values = sorted({about[name] for about in abouts})
        if len(values) > 1:
            raise ValueError(
                f"--networks are not of one training: {name} is {' and '.join(values)}"
            )
    return int(abouts[0]["image_size"]), abouts[0]["normalize"]


def follow(
    still: Float[Array, "n h w"], moved: Float[Array, "n h w"], direction: tuple[int, int]
) -> dict[str, Float[Array, " n"]]:
    """How far predictions went with a crop that moved, in pixels.

    `still` and `moved` are predictions of the same content, out of a crop and out of the crop that
    was moved in `direction`. `peak` is where a prediction is highest, `mass` its centre of mass,
    along that direction. NaN where either prediction holds nothing for salient (no pixel reaches
    1/2, and its centre of mass is that of the noise), or is flat to within float32's resolution.
    """

    def places(map_: Array) -> tuple[Array, Array, Array]:
        n, height, width = map_.shape
        rows = jnp.arange(height, dtype=jnp.float32)[:, None] * direction[0]
        columns = jnp.arange(width, dtype=jnp.float32) * direction[1]
        along = (rows + columns).reshape(-1)
        flat = map_.reshape(n, -1)
        mass = (flat @ along) / jnp.sum(flat, axis=1)
        highest = jnp.max(flat, axis=1)
        known = (highest >= 0.5) & (jnp.ptp(flat, axis=1) > 1e-6 * highest)
        return along[jnp.argmax(flat, axis=1)], mass, known

    peak, mass, known = (
        b - a if a.dtype != bool else a & b
        for a, b in zip(places(still), places(moved), strict=True)
    )
    return {
        "peak": jnp.where(known, peak, jnp.nan),
        "mass": jnp.where(known, mass, jnp.nan),
    }


def _images(settings: ShiftSettings, size: int) -> Source:
    side = size + 2 * settings.step
    source = open_source(settings.images, size=side, manual_dir=settings.manual_dir)
    last = None if settings.num_test is None else settings.num_train + settings.num_test
    chosen = range(len(source))[settings.num_train : last]
    if not chosen:
        raise ValueError(
            f"--images={settings.images}: of its {len(source)} images, none is left behind the "
            f"first {settings.num_train}"
        )
    return select(source, chosen)


def shift_step(network: nn.Module, normalize: str, size: int, step: int) -> Callable:
    """The step that measures how far predictions go with crops that move by `step` pixels.

    It maps (variables, images [n, size + 2 step, size + 2 step, 3]) to `FIGURES` [n, directions]
    as parts of the way, see `follow`, and the `maps` of the five crops [n, 5, size, size], the
    middle one first.
    """

    def predict(variables: Any, images: Array, row: int, column: int) -> Array:
        window = images[:, row : row + size, column : column + size]
        return network.apply(variables, normalised(window, normalize))

    def measure_shifts(variables: Any, images: UInt8[Array, "n h w 3"]) -> dict[str, Array]:
        still = predict(variables, images, step, step)
        found, maps = [], [still]
        for down, right in DIRECTIONS:
            moved = predict(variables, images, step * (1 + down), step * (1 + right))
            pair = (_common(still, down, right, step), _common(moved, -down, -right, step))
            found.append(follow(*pair, (down, right)))
            maps.append(moved)
        measured = {name: jnp.stack([f[name] for f in found], axis=1) / step for name in FIGURES}
        return {**measured, "maps": jnp.stack(maps, axis=1)}

    return measure_shifts


# Cached, because its compilation serves all seeds.
@functools.cache
def _measure(
    network: nn.Module, normalize: str, size: int, step: int, devices: tuple[jax.Device, ...]
) -> Callable:
    return parallel.pmap(shift_step(network, normalize, size, step), devices)


def _common(map_: Array, down: int, right: int, step: int) -> Array:
    """The part of a window that is also in the one moved by so many steps."""
    height, width = map_.shape[1:]
    top, left = max(down, 0) * step, max(right, 0) * step
    return map_[:, top : height + min(down, 0) * step, left : width + min(right, 0) * step]


def _rows(encoder: str, padding: str, networks: Sequence[dict[str, np.ndarray]]) -> list[tuple]:
    rows = []
    for name in FIGURES:
        values = np.stack([network[name] for network in networks])  # seeds, images, directions
        undefined = np.isnan(values)
        known = np.sum(~undefined, axis=2)
        means = np.where(known, np.nansum(values, axis=2) / np.maximum(known, 1), np.nan)
        interval = bootstrap_mean(means) or (np.nan,) * 3
        counts = (len(networks), values.shape[1], int(undefined.sum()))
        rows.append((encoder, padding, name, *(f"{v:.4f}" for v in interval), *counts))
    return rows


def _as_text(rows: Sequence[tuple], step: int) -> str:
    cells: dict[str, str] = {}
    for encoder, padding, _, value, low, high, seeds, images, undefined in rows:
        label = f"{encoder} {padding} ({seeds} x {images})"
        pairs = seeds * images * len(DIRECTIONS)
        lost = f" {undefined} of {pairs} undefined" if undefined else ""
        cells[label] = cells.get(label, "") + f"{f'{value} [{low}, {high}]{lost}':>44}"
    head = f"{'(seeds x images)':44}" + "".join(f"{name:>44}" for name in FIGURES)
    return "\n".join(
        [
            f"crops moved by {step} pixels: which part of the way the prediction goes with them, 0 "
            "where it stays with the content. A peak that stays in the frame has 1, a centre of "
            "mass less: it is that of what both crops show. Undefined where either shows nothing "
            "salient: such pairs are left out, for each padding mode its own",
            head,
            *(f"{label:44}{cell}" for label, cell in cells.items()),
        ]
    )


def _picture(
    images: Float[np.ndarray, "n s s 3"], maps: dict[str, np.ndarray], size: int, step: int
) -> bytes:
    """Each image, and below each other what the networks predict for five crops of it."""
    # It takes a while to import, which --help need not wait for.
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
