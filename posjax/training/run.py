"""A run of training: one network for each padding mode and seed, and the files it leaves."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax import runtime
from posjax.encoders import Padding
from posjax.runs.workdir import Workdir
from posjax.runtime import (
    Checkpoints,
    locked,
    progress,
    stop_requests,
    write_atomically,
    write_rows,
)
from posjax.training.feeding import Feed, open_feed
from posjax.training.initial import check_initial, load_initial, record
from posjax.training.job import History, Job, Trained
from posjax.training.optimizer import schedule
from posjax.training.settings import TrainingSettings
from posjax.training.task import WEIGHTS, Datasets, Task, TrainedModel
from posjax.training.train import check_batch, train


def run(settings: TrainingSettings, task: Task, *, say: Callable[[str], None] = print) -> bool:
    """Trains what is not yet trained, and writes weights, curves and a table.

    Each network has its folder in the workdir: `weights.safetensors` with PyTorch's names, the
    other files of its task, `metrics.csv` of every epoch, TensorBoard's events, checkpoints.
    SIGTERM stops it behind a checkpoint. Returns whether all is trained; started again with the
    same settings, it goes on. More padding modes and seeds may join later.

    Raises:
        ValueError, FileNotFoundError: settings, images or a workdir that do not fit together,
            before anything is trained; an image or a checkpoint that cannot be read.
        FloatingPointError: the loss is not finite.
        OSError: there is no room for a checkpoint; the one before it is still there.
    """
    with stop_requests() as should_stop:
        return _run(settings, task, say, should_stop)


@dataclasses.dataclass(frozen=True)
class Network:
    """One network that a run trains, and the digest of the weights that it begins with."""

    settings: TrainingSettings
    padding: Padding
    seed: int
    initial_weights: str = ""

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        name = f"{self.settings.encoder}-{self.padding}-seed{self.seed}"
        return self.settings.workdir / name

    @property
    def finished(self) -> bool:
        """Whether its files are there."""
        return (self.folder / WEIGHTS).exists()


def _run(
    settings: TrainingSettings,
    task: Task,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> bool:
    devices = tuple(runtime.local_devices(settings.devices))
    datasets = task.open(settings)
    check_batch(len(datasets.train.source), settings.optimizer.batch_size, len(devices))
    # Refuses a warm-up that takes all steps.
    schedule(settings.optimizer, len(datasets.train.source) // settings.optimizer.batch_size)
    networks = [
        Network(settings, p, seed) for seed in settings.seeds for p in settings.parsed_paddings
    ]
    rest = _checked([n for n in networks if not n.finished], task, datasets)
    about = {
        "weight_digests": {},
        "image_digests": datasets.digests,
        **datasets.about,
        "devices": runtime.describe_devices(devices),
    }
    Workdir(settings.workdir).claim(settings.identity(), about)
    say(_plan(settings, datasets, about["devices"], len(networks)))
    if rest:
        feeds = (open_feed(datasets.train), open_feed(datasets.test))
        for network in rest:
            if not _train_locked(network, task, datasets, feeds, devices, should_stop):
                return False
            task.write_table(settings.workdir)
    say(task.write_table(settings.workdir))
    say(f"weights: {settings.workdir}/*/{WEIGHTS}")
    return True


def _checked(networks: list[Network], task: Task, datasets: Datasets) -> list[Network]:
    """The networks with the digest of their initial weights, which fit them."""
    digests: dict[Padding, str] = {}
    for network in networks:
        if network.padding not in digests:
            module = task.objective(network.settings, network.padding, datasets).module
            digests[network.padding] = check_initial(
                network.settings, network.padding, module, task.with_encoder
            )
    return [dataclasses.replace(n, initial_weights=digests[n.padding]) for n in networks]


def _plan(settings: TrainingSettings, datasets: Datasets, devices: str, count: int) -> str:
    optimizer, train, test = settings.optimizer, datasets.train.source, datasets.test.source
    lines = {
        "encoder": settings.encoder,
        "begins with": f"{settings.weights} weights",
        "paddings": ", ".join(map(str, settings.paddings)),
        "seeds": ", ".join(map(str, settings.seeds)),
        "images": f"{len(train)} of {train.name}, {settings.image_size} pixels a side out of "
        f"{settings.image_size + optimizer.crop_margin}",
        "test images": f"{len(test)} of {test.name}",
        "trainings": f"{count} of {optimizer.epochs} epochs, batches of {optimizer.batch_size}",
        "devices": devices,
        "workdir": str(settings.workdir),
    }
    return "\n".join(f"{name + ':':14}{text}" for name, text in lines.items()) + "\n"


def _train_locked(
    network: Network,
    task: Task,
    datasets: Datasets,
    feeds: tuple[Feed, Feed],
    devices: tuple[jax.Device, ...],
    should_stop: Callable[[], bool],
) -> bool:
    """Trains a network unless another process does; false where it was stopped before the end."""
    name = f"{network.padding}, seed {network.seed}"
    lock = network.settings.workdir / f".{network.folder.name}.lock"
    waiting = f"another process trains {name}: waiting for it"
    try:
        if should_stop():
            raise InterruptedError("asked to stop between two trainings")
        with locked(lock, waiting, should_stop):
            if network.finished:  # by that process
                return True
            record(network.folder, network.initial_weights)
            trained = _train(network, task, datasets, feeds, devices, should_stop)
    except InterruptedError as error:
        progress.note(f"{error}; start again to go on")
        return False
    if not trained.finished:
        progress.note(
            f"asked to stop: a checkpoint of {name}, is written after step {trained.step}; start "
            "again to go on"
        )
    return trained.finished


def _train(
    network: Network,
    task: Task,
    datasets: Datasets,
    feeds: tuple[Feed, Feed],
    devices: tuple[jax.Device, ...],
    should_stop: Callable[[], bool],
) -> Trained:
    settings, padding = network.settings, network.padding
    job = Job(
        f"{settings.encoder} {padding}",
        task.objective(settings, padding, datasets),
        settings.optimizer,
        network.seed,
        settings.normalize,
        devices,
        settings.evaluate_every,
    )

    def init_from(random: Any) -> Any:
        loaded = load_initial(settings, padding)
        return task.with_encoder(random, loaded.variables) if loaded else random

    with _open_logs(network) as logs:
        trained = train(job, *feeds, logs, init_from, should_stop)
    if trained.finished:
        model = TrainedModel(settings, padding, job, trained, network.initial_weights, *feeds)
        files = task.files(model)
        # The weights come last: they say that all files are there.
        for name in sorted(files, key=lambda name: name == WEIGHTS):
            write_atomically(network.folder / name, files[name])
    return trained


@dataclasses.dataclass(frozen=True)
class _Logs:
    """The checkpoints and figures of a network in its folder."""

    folder: Path
    checkpoints: Checkpoints
    writer: Any

    def log(self, epoch: int, history: History) -> None:
        """Writes an epoch's figures as TensorBoard events, and metrics.csv."""
        for name, values in history.items():
            if np.isfinite(values[epoch]):
                self.writer.add_scalar(name, float(values[epoch]), epoch + 1)
        self.writer.flush()
        write_rows(self.folder / "metrics.csv", ("epoch", *history), _cells(history, epoch + 1))


@contextlib.contextmanager
def _open_logs(network: Network) -> Iterator[_Logs]:
    # Its import takes a while. A program's help need not wait for that.
    from tensorboardX import SummaryWriter

    folder = network.folder
    seconds = network.settings.checkpoint_seconds
    with (
        Checkpoints(folder / "checkpoints", seconds) as checkpoints,
        SummaryWriter(str(folder / "tensorboard")) as writer,
    ):
        yield _Logs(folder, checkpoints, writer)


def _cells(history: History, epochs: int) -> Iterator[tuple]:
    rows = zip(*(values[:epochs] for values in history.values()), strict=True)
    for epoch, row in enumerate(rows, 1):
        yield epoch, *("" if np.isnan(value) else f"{value:.6g}" for value in row)
