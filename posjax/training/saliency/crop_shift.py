"""Figure 1 of the paper, measured: does predicted saliency stay with the content or the frame?"""

import dataclasses
import glob
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax import encoders, runtime
from posjax.images import Kept, Source, batches, open_source, select
from posjax.runs.fields import DEVICES, MANUAL_DIR, check_fields, result_fields, setting
from posjax.runs.image_sets import ImagePlan
from posjax.runs.workdir import Workdir
from posjax.runtime import write_atomically, write_rows
from posjax.training.saliency.network import SaliencyNetwork
from posjax.training.saliency.shift import FIGURES, measure_shifts
from posjax.training.saliency.shift_report import COLUMNS, as_text, picture, table_rows
from posjax.training.saliency.task import load_network

SHOWN = 4  # images in the picture
TABLE = "crop_shift.csv"
PICTURE = "crop_shift.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftSettings:
    """Networks of `train_dense`, and the images whose crops they see."""

    networks: tuple[str, ...] = setting(
        help="Files network.safetensors that train_dense left; * stands for any.", result=False
    )
    images: str = setting(help="Folder of images, or tfds:NAME[:SPLIT].")
    num_train: int = setting(
        0,
        "Images to leave out: the first by name, which the networks were trained on.",
        at_least=0,
    )
    num_test: int | None = setting(
        None, "Number of images behind those.", at_least=1, default_text="all"
    )
    step: int = setting(
        16,
        "How far a crop is moved, pixels: a multiple of the encoder's total stride (16 for VGG). "
        "Otherwise its pools see other pixels together.",
        at_least=1,
    )
    batch_size: int = setting(16, "Images at a time, over all devices.", at_least=1, result=False)
    workdir: Path = setting(
        Path("runs/crop_shift"),
        "Folder for the table and the picture.",
        result=False,
        default_text="runs/PROGRAM",
    )
    manual_dir: Path | None = setting(None, **MANUAL_DIR)
    devices: int = setting(0, **DEVICES)

    def __post_init__(self):
        """Refuses values that cannot run, by the name of the field."""
        check_fields(self)

    @property
    def files(self) -> list[Path]:
        """The files that `networks` names.

        Raises:
            ValueError: there is no such file.
        """
        files: list[str] = []
        for pattern in self.networks:
            names = sorted(glob.glob(str(Path(pattern).expanduser())))
            if not names:
                raise ValueError(f"networks={pattern}: no such file")
            files += names
        return [Path(name) for name in dict.fromkeys(files)]


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network, and the metadata of its file."""

    path: Path
    module: SaliencyNetwork
    variables: Any
    about: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str, str]:
        """Encoder, padding and seed."""
        # Files of earlier versions have the seed in the recipe.
        seed = self.about.get("seed") or json.loads(self.about["recipe"])["seed"]
        return self.about["encoder"], self.about["padding"], str(seed)

    @property
    def title(self) -> str:
        """For people."""
        return "{} {} seed {}".format(*self.key)


def run(settings: ShiftSettings, *, say: Callable[[str], None] = print) -> None:
    """Measures all networks and writes crop_shift.csv and crop_shift.png into the workdir.

    Raises:
        ValueError, FileNotFoundError: a network or an image cannot be read; networks that are not
            of one training under several padding modes and seeds, or predict what is no number; a
            step that is no multiple of an encoder's total stride; no image is left; a workdir of
            another run.
    """
    devices = runtime.local_devices(settings.devices)
    networks = _load_networks(settings)
    size, normalize = _common_training(networks)
    source = _images(settings, size)
    digests = {str(n.path): hashlib.sha256(n.path.read_bytes()).hexdigest() for n in networks}
    about = {
        "weight_digests": digests,
        "image_digests": {"images": source.digest()},
        "devices": runtime.describe_devices(devices),
    }
    Workdir(settings.workdir).claim(result_fields(settings), about)
    side = size + 2 * settings.step
    source = Kept(source, side, ImagePlan({side: len(source)}, settings.workdir).place)
    figures: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    pictures: dict[str, np.ndarray] = {}
    for network in networks:
        say(f"{network.title}: {len(source)} images")
        measured, maps = _measure(network, normalize, source, settings, devices)
        figures.setdefault(network.key[:2], []).append(measured)
        pictures.setdefault(" ".join(network.key[:2]), maps)
    rows = [row for name, group in figures.items() for row in table_rows(*name, group)]
    write_rows(settings.workdir / TABLE, COLUMNS, rows)
    count = min(len(maps) for maps in pictures.values())
    shown = np.stack([source[index] for index in range(count)])
    write_atomically(settings.workdir / PICTURE, picture(shown, pictures, size, settings.step))
    say(as_text(rows, settings.step))
    say(f"{settings.workdir / TABLE}, {settings.workdir / PICTURE}")


def _load_networks(settings: ShiftSettings) -> list[Network]:
    networks: dict[tuple[str, str, str], Network] = {}
    for path in settings.files:
        network = Network(path, *load_network(path))
        if network.key in networks:
            raise ValueError(f"networks: two are of {network.title}")
        name, padding, _ = network.key
        fields = encoders.create(name, padding).receptive_fields()
        stride = max(field.stride for field in fields.values())
        if settings.step % stride:
            raise ValueError(
                f"step={settings.step} must be a multiple of {stride}, the total stride of {name}"
            )
        networks[network.key] = network
    return list(networks.values())


def _common_training(networks: Sequence[Network]) -> tuple[int, str]:
    """The size of the images and their statistics, that all networks were trained with."""
    for name in ("image_size", "normalize", "recipe", "weights"):
        values = {network.about[name] for network in networks}
        if name == "recipe":
            recipes = [json.loads(value) for value in values]
            values = {json.dumps(recipe | {"seed": None}, sort_keys=True) for recipe in recipes}
        if len(values) > 1:
            raise ValueError(
                f"networks are not of one training: {name} is {' and '.join(sorted(values))}"
            )
    about = networks[0].about
    return int(about["image_size"]), about["normalize"]


def _images(settings: ShiftSettings, size: int) -> Source:
    side = size + 2 * settings.step
    source = open_source(settings.images, size=side, manual_dir=settings.manual_dir)
    last = None if settings.num_test is None else settings.num_train + settings.num_test
    chosen = range(len(source))[settings.num_train : last]
    if not chosen:
        raise ValueError(
            f"images={settings.images}: of its {len(source)} images, none is left behind the "
            f"first {settings.num_train}"
        )
    return select(source, chosen)


def _measure(
    network: Network,
    normalize: str,
    source: Source,
    settings: ShiftSettings,
    devices: Sequence[jax.Device],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The `FIGURES` of every image and direction, and the maps of the first images."""
    size = int(network.about["image_size"])
    step = measure_shifts(network.module, normalize, size, settings.step, tuple(devices))
    copies = runtime.replicate(network.variables, devices)
    parts, shown = [], []
    for images in batches(source, settings.batch_size):
        shards, _ = runtime.shard_batch(images, settings.batch_size, devices)
        part = runtime.unshard(step(copies, shards), len(images))
        maps = part.pop("maps")
        if not np.isfinite(maps).all():
            raise ValueError(f"networks: {network.title} predicts NaN or infinity")
        shown = shown or [maps[:SHOWN]]
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in FIGURES}, shown[0]
