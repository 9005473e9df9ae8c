"""A run of training: one encoder for each padding mode and seed, and the files it leaves."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax import encoders
from posjax.encoders.export import as_stored, to_safetensors
from posjax.images import STATISTICS, Labelled, open_labelled
from posjax.runs import parallel, progress
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.locks import locked
from posjax.runs.records import write_atomically
from posjax.runs.settings import check_axis, check_known, check_least
from posjax.runs.workdir import Workdir, describe_devices
from posjax.training.accuracy import WEIGHTS, write_table
from posjax.training.feeding import Feed, open_feed
from posjax.training.recipe import Recipe, schedule
from posjax.training.stopping import stop_requests
from posjax.training.train import HISTORY, History, Trained, check_batch, evaluate, train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run trains, on which images, and where it leaves it."""

    encoder: str
    paddings: tuple[str, ...] = ("zeros",)
    seeds: tuple[int, ...] = (0,)
    recipe: Recipe
    images: str
    test_images: str
    num_train: int | None = None
    num_test: int | None = None
    image_size: int = 224
    normalize: str = "imagenet"
    evaluate_every: int = 1
    checkpoint_seconds: float = 60.0
    weights_dtype: str = "float32"
    workdir: Path
    manual_dir: Path | None = None
    devices: int = 0

    def __post_init__(self):
        """Raises ValueError for what cannot run; names the flag."""
        if self.encoder not in encoders.names() or self.encoder == encoders.PIXELS:
            known = ", ".join(name for name in encoders.names() if name != encoders.PIXELS)
            raise ValueError(f"--encoder: {self.encoder!r} cannot be trained; one of {known} can")
        for padding in self.paddings:
            _, view = encoders.check_padding(self.encoder, padding)
            if view:
                raise ValueError(f"--paddings: views such as {padding!r} are not trained")
        check_known("normalize", (self.normalize,), tuple(STATISTICS))
        check_axis("paddings", self.paddings)
        check_axis("seeds", self.seeds)
        check_known("weights_dtype", (self.weights_dtype,), ("float32", "float16"))
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"--seeds must be from 0 to 2^32 - 1, found {seed}")
        check_least("image_size", 1, self.image_size)
        check_least("evaluate_every", 1, self.evaluate_every)
        check_least("checkpoint_seconds", 0, self.checkpoint_seconds)
        check_least("devices", 0, self.devices)
        for name in ("num_train", "num_test"):
            if getattr(self, name) is not None:
                check_least(name, 1, getattr(self, name))
        for padding in self.paddings:
            _check_size(self.encoder, padding, self.image_size)

    def science(self) -> dict[str, Any]:
        """What determines the results."""
        elsewhere = ("workdir", "manual_dir", "devices", "checkpoint_seconds")
        elsewhere += ("paddings", "seeds", "recipe")
        own = {k: v for k, v in dataclasses.asdict(self).items() if k not in elsewhere}
        recipe = dataclasses.asdict(self.recipe)
        recipe.pop("seed")
        return own | recipe


def run(settings: Settings, *, say: Callable[[str], None] = print) -> bool:
    """Trains what is not yet trained, and writes weights, curves and a table of accuracies.

    Each encoder has its folder in the workdir: `weights.safetensors` with PyTorch's names, that
    `--weights` takes, `metrics.csv` of every epoch, TensorBoard's events, checkpoints. SIGTERM
    stops it behind a checkpoint. Returns whether all is trained; started again with the same
    flags, it goes on. More padding modes and seeds may join later.

    Raises:
        ValueError, FileNotFoundError: flags, images or a workdir that do not fit together, before
            anything is trained; an image or a checkpoint that cannot be read.
        FloatingPointError: the loss is not finite.
        OSError: there is no room for a checkpoint; the one before it is still there.
    """
    with stop_requests() as asked:
        return _run(settings, say, asked)


def _run(settings: Settings, say: Callable[[str], None], asked: Callable[[], bool]) -> bool:
    devices = parallel.local_devices(settings.devices)
    images, tests = _open(settings)
    check_batch(len(images.source), settings.recipe.batch_size, len(devices))
    schedule(settings.recipe, len(images.source) // settings.recipe.batch_size)
    about = {
        "weight_digests": {},
        "image_digests": {"images": images.source.digest(), "test_images": tests.source.digest()},
        "classes": list(images.classes),
        "devices": describe_devices(devices),
    }
    Workdir(settings.workdir).claim(settings.science(), about)
    pairs = [(padding, seed) for seed in settings.seeds for padding in settings.paddings]
    say(_plan(settings, images, tests, about["devices"], len(pairs)))
    rest = [pair for pair in pairs if not (_folder(settings, *pair) / WEIGHTS).exists()]
    feeds = [open_feed(labelled) for labelled in (images, tests)] if rest else []
    for padding, seed in rest:
        if asked():
            progress.note("asked to stop between two trainings; start again to go on")
            return False
        lock = settings.workdir / f".{_folder(settings, padding, seed).name}.lock"
        waiting = f"another process trains {padding}, seed {seed}: waiting for it"
        try:
            with locked(lock, waiting, asked):
                # That process may have finished it.
                if (_folder(settings, padding, seed) / WEIGHTS).exists():
                    continue
                trained = _train(settings, padding, seed, *feeds, devices, asked)
        except InterruptedError as error:
            progress.note(f"{error}; start again to go on")
            return False
        if not trained.finished:
            progress.note(
                f"asked to stop: a checkpoint of {padding}, seed {seed}, is written after step "
                f"{trained.step}; start again to go on"
            )
            return False
        write_table(settings.workdir)
    say(write_table(settings.workdir))
    say(f"weights: {settings.workdir}/*/{WEIGHTS}")
    return True


def _check_size(name: str, padding: str, image_size: int) -> None:
    """Raises ValueError where images are too small for the encoder or its head."""
    encoder = encoders.create(name, padding, num_classes=2)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), np.float32)
    try:
        jax.eval_shape(encoder.init, jax.random.key(0), images)
    except ValueError as error:
        raise ValueError(f"--image_size={image_size}: {error}") from error


def _open(settings: Settings) -> tuple[Labelled, Labelled]:
    opened = []
    for flag, limit in (("images", settings.num_train), ("test_images", settings.num_test)):
        try:
            opened.append(
                open_labelled(
                    getattr(settings, flag),
                    size=settings.image_size + settings.recipe.crop_margin,
                    limit=limit,
                    manual_dir=settings.manual_dir,
                )
            )
        except ValueError as error:
            raise ValueError(f"--{flag}: {error}") from error
    images, tests = opened
    if images.classes != tests.classes:
        raise ValueError(
            f"--test_images has the classes {', '.join(tests.classes)}; those of --images are "
            f"{', '.join(images.classes)}"
        )
    return images, tests


def _plan(settings: Settings, images: Labelled, tests: Labelled, devices: str, count: int) -> str:
    recipe = settings.recipe
    lines = {
        "encoder": settings.encoder,
        "paddings": ", ".join(settings.paddings),
        "seeds": ", ".join(map(str, settings.seeds)),
        "images": f"{len(images.source)} of {settings.images}, {len(images.classes)} classes, "
        f"{settings.image_size} pixels a side out of {settings.image_size + recipe.crop_margin}",
        "test images": f"{len(tests.source)} of {settings.test_images}",
        "trainings": f"{count} of {recipe.epochs} epochs, batches of {recipe.batch_size}",
        "devices": devices,
        "workdir": str(settings.workdir),
    }
    return "\n".join(f"{name + ':':14}{text}" for name, text in lines.items()) + "\n"


def _folder(settings: Settings, padding: str, seed: int) -> Path:
    return settings.workdir / f"{settings.encoder}-{padding}-seed{seed}"


def _train(
    settings: Settings,
    padding: str,
    seed: int,
    images: Feed,
    tests: Feed,
    devices: list[jax.Device],
    asked: Callable[[], bool],
) -> Trained:
    # It takes a while to import, which --help need not wait for.
    from tensorboardX import SummaryWriter

    folder = _folder(settings, padding, seed)
    recipe = dataclasses.replace(settings.recipe, seed=seed)
    with (
        Checkpoints(folder / "checkpoints", settings.checkpoint_seconds) as checkpoints,
        SummaryWriter(str(folder / "tensorboard")) as writer,
    ):

        def log(epoch: int, history: History) -> None:
            for name, values in history.items():
                if np.isfinite(values[epoch]):
                    writer.add_scalar(name, float(values[epoch]), epoch + 1)
            writer.flush()
            write_atomically(folder / "metrics.csv", _metrics(history, epoch + 1).encode())

        trained = train(
            settings.encoder,
            padding,
            images,
            tests,
            recipe,
            normalize=settings.normalize,
            devices=devices,
            checkpoints=checkpoints,
            log=log,
            evaluate_every=settings.evaluate_every,
            asked_to_stop=asked,
        )
    if trained.finished:
        content = _content(settings, padding, recipe, trained, tests, devices)
        write_atomically(folder / WEIGHTS, content)
    return trained


def _content(
    settings: Settings,
    padding: str,
    recipe: Recipe,
    trained: Trained,
    tests: Feed,
    devices: list[jax.Device],
) -> bytes:
    """The file of weights, with the accuracy of just these, as they are probed: in float32."""
    name, dtype = settings.encoder, np.dtype(settings.weights_dtype)
    stored = encoders.from_torch(name, as_stored(name, trained.variables, dtype))
    encoder = encoders.create(name, padding, num_classes=len(tests.labelled.classes))
    how = {"batch_size": recipe.batch_size, "margin": recipe.crop_margin}
    found = evaluate(encoder, stored, tests, devices, normalize=settings.normalize, **how)
    metadata = {
        "encoder": name,
        "padding": padding,
        "normalize": settings.normalize,
        "image_size": str(settings.image_size),
        "recipe": json.dumps(dataclasses.asdict(recipe)),
        "test_correct": str(found.correct),
        "test_count": str(found.count),
    }
    return to_safetensors(name, trained.variables, metadata, dtype)


def _metrics(history: History, epochs: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("epoch", *HISTORY))
    rows = zip(*(history[name][:epochs] for name in HISTORY), strict=True)
    for epoch, row in enumerate(rows, 1):
        writer.writerow((epoch, *("" if np.isnan(value) else f"{value:.6g}" for value in row)))
    return text.getvalue()
