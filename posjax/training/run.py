"""A run of training: one network for each padding mode and seed, and the files it leaves."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from posjax import encoders, runtime
from posjax.runs.memory import images_need
from posjax.runs.workdir import Workdir
from posjax.runtime import locked, progress, stop_requests, write_atomically
from posjax.training.initial import check_initial, record
from posjax.training.optimizer import schedule
from posjax.training.settings import TrainingSettings
from posjax.training.task import WEIGHTS, Job, Task
from posjax.training.train import check_stop, train


def run(task: Task, *, say: Callable[[str], None] = progress.say) -> bool:
    """Trains what is not yet trained, and writes weights, curves and a table.

    Each network has its folder in the workdir: `weights.safetensors` with PyTorch's names, the
    other files of its task, `metrics.csv` of every epoch, TensorBoard's events, checkpoints.
    SIGTERM stops it behind a checkpoint. Returns whether all is trained; started again with the
    same settings, it goes on. More padding modes and seeds may join later.

    Raises:
        ValueError, FileNotFoundError: settings, weights, images or workdir do not fit together,
            before anything is trained; what `train` raises.
    """
    settings = task.settings
    devices = tuple(runtime.local_devices(settings.devices))
    _check_batches(task, len(devices))
    _check_memory(settings, devices)
    jobs = [Job(task, p, seed, devices) for seed in settings.seeds for p in settings.paddings]
    rest = _checked([job for job in jobs if not job.finished])
    about = {
        "weight_digests": {},
        "image_digests": dict(task.digests),
        **task.about,
        "devices": runtime.describe_devices(devices),
    }
    Workdir(settings.workdir).claim(settings.identity(), about)
    say(_plan(task, about["devices"]))
    try:
        with stop_requests() as should_stop:
            for job in rest:
                _train(job, should_stop)
                task.write_table()
    except InterruptedError as error:
        progress.note(f"{error}; start again to go on")
        return False
    say(task.write_table())
    say(f"weights: {settings.workdir}/*/{WEIGHTS}")
    return True


def _check_batches(task: Task, devices: int) -> None:
    count, settings = len(task.train), task.settings.optimizer
    size = settings.batch_size
    if count < size:
        raise ValueError(f"batch_size={size}: there are only {count} training images")
    if size % devices:
        raise ValueError(f"batch_size={size} is no multiple of the {devices} devices")
    schedule(settings, count // size)  # refuses a warm-up that takes all steps


def _checked(jobs: list[Job]) -> list[Job]:
    """The jobs with the digest of their initial weights, which fit them."""
    one_of_each = {job.padding: job for job in jobs}
    digests = {padding: check_initial(job) for padding, job in one_of_each.items()}
    return [dataclasses.replace(job, initial_weights=digests[job.padding]) for job in jobs]


def _check_memory(settings: TrainingSettings, devices: Sequence[jax.Device]) -> None:
    images = settings.optimizer.batch_size // len(devices)
    needs = (
        images_need(
            encoders.stage_shapes(settings.encoder, padding, settings.image_size),
            settings.image_size,
            images,
            settings.optimizer.dtype,
            backward=True,
        )
        for padding in settings.paddings
    )
    runtime.check_memory(needs, devices)


def _plan(task: Task, devices: str) -> str:
    settings, train, test = task.settings, task.train.source, task.test.source
    optimizer, count = settings.optimizer, len(settings.paddings) * len(settings.seeds)
    lines = {
        "encoder": settings.encoder,
        "begins with": f"{settings.weights} weights",
        "paddings": ", ".join(map(str, settings.paddings)),
        "seeds": ", ".join(map(str, settings.seeds)),
        "images": f"{len(train)} of {train.name}, in windows of {settings.image_size} pixels a "
        f"side out of {settings.opened_size}",
        "test images": f"{len(test)} of {test.name}",
        **task.facts,
        "trainings": f"{count} of {optimizer.epochs} epochs, batches of {optimizer.batch_size}",
        "devices": devices,
        "workdir": str(settings.workdir),
    }
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':{width}}{text}" for name, text in lines.items()) + "\n"


def _train(job: Job, should_stop: Callable[[], bool]) -> None:
    """Trains a network and writes its files, unless another process does."""
    check_stop(should_stop)
    lock = job.settings.workdir / f".{job.folder.name}.lock"
    waiting = f"another process trains {job.title}: waiting for it"
    with locked(lock, waiting, should_stop):
        if job.finished:
            return
        record(job)
        variables, _ = train(job, should_stop)
        files = job.task.files(job, variables)
        # The weights come last: they say that all files are there.
        for name in sorted(files, key=lambda name: name == WEIGHTS):
            write_atomically(job.folder / name, files[name])
