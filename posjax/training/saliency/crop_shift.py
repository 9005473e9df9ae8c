"""Figure 1 of the paper, measured: does predicted saliency stay with the content or the frame?"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from posjax import encoders, runtime
from posjax.images import Kept, Source, batches, check_stored, open_source, select
from posjax.runs.fields import (
    DEVICES,
    MANUAL_DIR,
    SKIP_BAD_IMAGES,
    check_fields,
    plain_path,
    result_fields,
    setting,
)
from posjax.runs.image_sets import ImagePlan
from posjax.runs.memory import images_need
from posjax.runs.workdir import Workdir
from posjax.runtime import progress, write_atomically, write_rows
from posjax.training.saliency.saved import SavedNetwork, load_network
from posjax.training.saliency.shift import FIGURES, shift_step
from posjax.training.saliency.shift_report import COLUMNS, as_text, picture, table_rows
from posjax.training.task import left_out, naming

SHOWN = 4  # images in the picture
TABLE, PICTURE = "crop_shift.csv", "crop_shift.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftSettings:
    """Networks of `train_dense`, and the images whose crops they see."""

    networks: tuple[str, ...] = setting(
        help="Files network.safetensors that train_dense left; * stands for any.", result=False
    )
    images: str = setting(help="Folder of images, or tfds:NAME[:SPLIT].", parse=plain_path)
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
    skip_bad_images: bool = setting(False, **SKIP_BAD_IMAGES)
    manual_dir: Path | None = setting(None, **MANUAL_DIR)
    devices: int = setting(0, **DEVICES)

    def __post_init__(self):
        """Refuses values that cannot run, by the name of the field."""
        check_fields(self)


def run(settings: ShiftSettings, *, say: Callable[[str], None] = progress.say) -> None:
    """Measures all networks and writes crop_shift.csv and crop_shift.png into the workdir.

    Raises:
        ValueError, FileNotFoundError: a network or an image cannot be read; networks that are not
            of one training under several padding modes and seeds, or predict what is no number; a
            step that is no multiple of an encoder's total stride; no image is left; a workdir of
            another run.
    """
    networks = _load_networks(settings)
    size = int(networks[0].about["image_size"])
    side = size + 2 * settings.step
    devices = runtime.local_devices(settings.devices)
    images = -(-settings.batch_size // len(devices))
    shapes = (encoders.stage_shapes(n.about["encoder"], None, size) for n in networks)
    runtime.check_memory((images_need(each, size, images) for each in shapes), devices)
    source = _images(settings, side)
    digests = {str(n.path): hashlib.sha256(n.path.read_bytes()).hexdigest() for n in networks}
    about = {
        "weight_digests": digests,
        "image_digests": {"images": source.digest()},
        "devices": runtime.describe_devices(devices),
    }
    Workdir(settings.workdir).claim(result_fields(settings), about)
    for name, text in left_out({"images": source.skipped}).items():
        say(f"{name}: {text}")
    source = Kept(source, side, ImagePlan({side: len(source)}, settings.workdir).place)
    rows, pictures = [], {}
    for (encoder, padding), seeds in itertools.groupby(networks, _mode):
        group = list(seeds)
        say(f"{encoder} {padding}: {len(group)} networks, {len(source)} images")
        figures, maps = _measure(group, source, settings)
        rows += table_rows(encoder, padding, figures)
        pictures[f"{encoder} {padding}"] = maps
    write_rows(settings.workdir / TABLE, COLUMNS, rows)
    shown = np.stack([source[index] for index in range(len(next(iter(pictures.values()))))])
    write_atomically(settings.workdir / PICTURE, picture(shown, pictures, size, settings.step))
    say(as_text(rows, settings.step))
    say(f"{settings.workdir / TABLE}, {settings.workdir / PICTURE}")


def _mode(network: SavedNetwork) -> tuple[str, str]:
    return network.about["encoder"], network.about["padding"]


def _load_networks(settings: ShiftSettings) -> list[SavedNetwork]:
    """The networks of one training, those of one encoder and padding beside each other."""
    networks: dict[str, SavedNetwork] = {}
    for path in _files(settings.networks):
        network = load_network(path)
        if network.title in networks:
            raise ValueError(f"networks: two are of {network.title}")
        networks[network.title] = network
        name, padding = _mode(network)
        fields = encoders.create(name, padding).receptive_fields()
        stride = max(field.stride for field in fields.values())
        if settings.step % stride:
            raise ValueError(
                f"step={settings.step} must be a multiple of {stride}, the total stride of {name}"
            )
    for name in ("image_size", "normalize", "recipe", "weights"):
        values = {network.about[name] for network in networks.values()}
        if len(values) > 1:
            raise ValueError(
                f"networks are not of one training: {name} is {' and '.join(sorted(values))}"
            )
    return sorted(networks.values(), key=_mode)


def _files(patterns: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for pattern in patterns:
        matching = _matching(Path(pattern).expanduser())
        if not matching:
            raise ValueError(f"networks={pattern}: no such file")
        files += sorted(matching)
    return list(dict.fromkeys(files))


def _matching(pattern: Path) -> list[Path]:
    """The files that match; signs in the name of a file or folder that is there are letters."""
    matching = [Path(pattern.anchor)]
    for part in pattern.relative_to(pattern.anchor).parts:
        matching = [
            path
            for folder in matching
            for path in ([folder / part] if (folder / part).exists() else folder.glob(part))
        ]
    return matching


def _images(settings: ShiftSettings, side: int) -> Source:
    with naming("images"):
        check_stored(settings.images)
        source = open_source(
            settings.images,
            size=side,
            skip_bad_images=settings.skip_bad_images,
            manual_dir=settings.manual_dir,
        )
    last = None if settings.num_test is None else settings.num_train + settings.num_test
    chosen = range(len(source))[settings.num_train : last]
    if not chosen:
        raise ValueError(
            f"images={settings.images}: of its {len(source)} images, none is left behind the "
            f"first {settings.num_train}"
        )
    return select(source, chosen)


def _measure(
    networks: Sequence[SavedNetwork], source: Source, settings: ShiftSettings
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The `FIGURES` [seeds, images, directions], and maps of the first network and images."""
    devices, size = runtime.local_devices(settings.devices), settings.batch_size
    about = networks[0].about
    step = runtime.pmap(
        shift_step(networks[0].module, about["normalize"], int(about["image_size"]), settings.step),
        devices,
    )
    figures, shown = {name: [] for name in FIGURES}, []
    for network in networks:
        variables = runtime.replicate(network.variables, devices)
        parts = []
        for images in batches(source, size):
            shards, _ = runtime.shard_batch(images, size, devices)
            part = runtime.unshard(step(variables, shards), len(images))
            maps = part.pop("maps")
            if not np.isfinite(maps).all():
                raise ValueError(f"networks: {network.title} predicts NaN or infinity")
            shown = shown or [maps[:SHOWN]]
            parts.append(part)
        for name in FIGURES:
            figures[name].append(np.concatenate([part[name] for part in parts]))
    return {name: np.stack(values) for name, values in figures.items()}, shown[0]
