"""A run of training: one network for each padding mode and seed, and the files it leaves."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Num

from posjax.images import Source
from posjax.runs import parallel, progress
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.locks import locked
from posjax.runs.records import write_atomically, write_rows
from posjax.runs.workdir import Workdir, describe_devices
from posjax.training.feeding import Feed, open_feed
from posjax.training.initial import check_initial, load_initial, record, with_encoder
from posjax.training.recipe import Recipe, schedule
from posjax.training.settings import Settings
from posjax.training.steps import Objective
from posjax.training.stopping import stop_requests
from posjax.training.train import History, Trained, check_batch, evaluate, train

WEIGHTS = "weights.safetensors"


class Examples(NamedTuple):
    """Images, and what is to be learnt of each."""

    source: Source
    targets: Num[np.ndarray, "n ..."]


class Opened(NamedTuple):
    """The examples to train on and to test on, what config.json says of them, and digests.

    A run is the same only where the digests are.
    """

    images: Examples
    tests: Examples
    about: dict[str, Any]
    digests: dict[str, str]


class Finished(NamedTuple):
    """A training that has come to its end, as `Kind.files` needs it."""

    settings: Any
    padding: str
    recipe: Recipe
    objective: Objective
    trained: Trained
    initial_weights: str
    images: Feed
    tests: Feed
    devices: list[jax.Device]

    def measures(self, objective: Objective, variables: Any) -> dict[str, np.ndarray]:
        """The measures of all test images, of variables that need not be those trained."""
        return evaluate(
            objective,
            variables,
            self.tests,
            self.devices,
            batch_size=self.recipe.batch_size,
            margin=self.recipe.crop_margin,
            normalize=self.settings.normalize,
        )

    def about(self) -> dict[str, str]:
        """What every file of weights says of itself."""
        return {
            "encoder": self.settings.encoder,
            "padding": self.padding,
            "normalize": self.settings.normalize,
            "image_size": str(self.settings.image_size),
            "recipe": json.dumps(dataclasses.asdict(self.recipe)),
            "weights": self.settings.weights,
            "initial_weights": self.initial_weights,
        }


class Kind(NamedTuple):
    """What sets one kind of training apart from another.

    `files` makes those of a finished training, by name; weights.safetensors is one of them.
    `table` writes and tells what a workdir's finished trainings have come to. `with_encoder`
    puts the variables of an encoder into those of a network.
    """

    open: Callable[[Any], Opened]
    objective: Callable[[Any, str, Opened], Objective]
    files: Callable[[Finished], dict[str, bytes]]
    table: Callable[[Path], str]
    with_encoder: Callable[[Any, Any], Any] = with_encoder


def run(settings: Settings, kind: Kind, *, say: Callable[[str], None] = print) -> bool:
    """Trains what is not yet trained, and writes weights, curves and a table.

    Each network has its folder in the workdir: `weights.safetensors` with PyTorch's names, that
    `--weights` takes, the other files of its kind, `metrics.csv` of every epoch, TensorBoard's
    events, checkpoints. SIGTERM stops it behind a checkpoint. Returns whether all is trained;
    started again with the same flags, it goes on. More padding modes and seeds may join later.

    Raises:
        ValueError, FileNotFoundError: flags, images or a workdir that do not fit together, before
            anything is trained; an image or a checkpoint that cannot be read.
        FloatingPointError: the loss is not finite.
        OSError: there is no room for a checkpoint; the one before it is still there.
    """
    with stop_requests() as asked:
        return _run(settings, kind, say, asked)


def _run(
    settings: Settings, kind: Kind, say: Callable[[str], None], asked: Callable[[], bool]
) -> bool:
    devices = parallel.local_devices(settings.devices)
    opened = kind.open(settings)
    sources = {"images": opened.images.source, "test_images": opened.tests.source}
    check_batch(len(opened.images.source), settings.recipe.batch_size, len(devices))
    schedule(settings.recipe, len(opened.images.source) // settings.recipe.batch_size)
    pairs = [(padding, seed) for seed in settings.seeds for padding in settings.paddings]
    rest = [pair for pair in pairs if not (_folder(settings, *pair) / WEIGHTS).exists()]
    initial = {
        padding: check_initial(
            settings, padding, kind.objective(settings, padding, opened).module, kind.with_encoder
        )
        for padding in dict.fromkeys(padding for padding, _ in rest)
    }
    about = {
        "weight_digests": {},
        "image_digests": {
            **{name: source.digest() for name, source in sources.items()},
            **opened.digests,
        },
        **opened.about,
        "devices": describe_devices(devices),
    }
    Workdir(settings.workdir).claim(settings.science(), about)
    say(_plan(settings, opened, about["devices"], len(pairs)))
    feeds = [open_feed(*examples) for examples in (opened.images, opened.tests)] if rest else []
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
                objective = kind.objective(settings, padding, opened)
                record(_folder(settings, padding, seed), initial[padding])
                which = padding, seed, initial[padding]
                trained = _train(settings, kind, objective, *which, *feeds, devices, asked)
        except InterruptedError as error:
            progress.note(f"{error}; start again to go on")
            return False
        if not trained.finished:
            progress.note(
                f"asked to stop: a checkpoint of {padding}, seed {seed}, is written after step "
                f"{trained.step}; start again to go on"
            )
            return False
        kind.table(settings.workdir)
    say(kind.table(settings.workdir))
    say(f"weights: {settings.workdir}/*/{WEIGHTS}")
    return True


def _plan(settings: Settings, opened: Opened, devices: str, count: int) -> str:
    recipe = settings.recipe
    lines = {
        "encoder": settings.encoder,
        "begins with": f"{settings.weights} weights",
        "paddings": ", ".join(settings.paddings),
        "seeds": ", ".join(map(str, settings.seeds)),
        "images": f"{len(opened.images.source)} of {opened.images.source.name}, "
        f"{settings.image_size} pixels a side out of {settings.image_size + recipe.crop_margin}",
        "test images": f"{len(opened.tests.source)} of {opened.tests.source.name}",
        "trainings": f"{count} of {recipe.epochs} epochs, batches of {recipe.batch_size}",
        "devices": devices,
        "workdir": str(settings.workdir),
    }
    return "\n".join(f"{name + ':':14}{text}" for name, text in lines.items()) + "\n"


def _folder(settings: Settings, padding: str, seed: int) -> Path:
    return settings.workdir / f"{settings.encoder}-{padding}-seed{seed}"


def _train(
    settings: Settings,
    kind: Kind,
    objective: Objective,
    padding: str,
    seed: int,
    initial_weights: str,
    images: Feed,
    tests: Feed,
    devices: list[jax.Device],
    asked: Callable[[], bool],
) -> Trained:
    # It takes a while to import, which --help need not wait for.
    from tensorboardX import SummaryWriter

    folder = _folder(settings, padding, seed)
    recipe = dataclasses.replace(settings.recipe, seed=seed)

    def begin(random: Any) -> Any:
        loaded = load_initial(settings, padding)
        return kind.with_encoder(random, loaded.variables) if loaded else random

    with (
        Checkpoints(folder / "checkpoints", settings.checkpoint_seconds) as checkpoints,
        SummaryWriter(str(folder / "tensorboard")) as writer,
    ):

        def log(epoch: int, history: History) -> None:
            for name, values in history.items():
                if np.isfinite(values[epoch]):
                    writer.add_scalar(name, float(values[epoch]), epoch + 1)
            writer.flush()
            write_rows(folder / "metrics.csv", ("epoch", *history), _cells(history, epoch + 1))

        trained = train(
            objective,
            f"{settings.encoder} {padding}",
            images,
            tests,
            recipe,
            normalize=settings.normalize,
            devices=devices,
            checkpoints=checkpoints,
            begin=begin,
            log=log,
            evaluate_every=settings.evaluate_every,
            asked_to_stop=asked,
        )
    if trained.finished:
        files = kind.files(
            Finished(
                settings,
                padding,
                recipe,
                objective,
                trained,
                initial_weights,
                images,
                tests,
                devices,
            )
        )
        # The weights come last: they say that all is there.
        for name in sorted(files, key=lambda name: name == WEIGHTS):
            write_atomically(folder / name, files[name])
    return trained


def _cells(history: History, epochs: int) -> Iterator[tuple]:
    rows = zip(*(values[:epochs] for values in history.values()), strict=True)
    for epoch, row in enumerate(rows, 1):
        yield epoch, *("" if np.isnan(value) else f"{value:.6g}" for value in row)
