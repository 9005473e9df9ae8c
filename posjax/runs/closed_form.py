"""Linear readouts of one shape, fitted in closed form on one read of the features."""

import functools
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from posjax.probes import LinearReadout
from posjax.probes.controls import Task, task_map
from posjax.probes.readout import Stages
from posjax.probes.ridge import (
    PENALTIES,
    Compensated,
    Moments,
    Ridge,
    add_images,
    columns_of,
    fit_ridge,
    moments,
    no_sums,
)
from posjax.runs import parallel, progress
from posjax.runs.checkpoints import Checkpoints
from posjax.runs.features import Features

HELD_OUT = 5  # every fifth image, from the first on
SAMPLE = 8  # images, whose mean features are taken off all of them


def fit(
    readout: LinearReadout,
    features: Features,
    stages: Sequence[str],
    tasks: Sequence[Task],
    *,
    batch_size: int = 32,
    devices: Sequence[jax.Device],
    checkpoints: Checkpoints | None = None,
) -> Ridge:
    """Fits a readout to each of `tasks`, see `posjax.probes.ridge`.

    Every fifth image is held out to choose the penalties; then all are fitted. Neither seeds nor
    the order of the images enter, nor, up to rounding in float64, batches and devices.

    Raises:
        ValueError: there is one image only.
        FloatingPointError: the features are too large for float32.
    """
    count = sum(parallel.from_all(len(features)))
    check_images(count)
    channels = sum(features.stages[name].shape[-1] for name in stages)
    if done := parallel.from_first(lambda: _restored(checkpoints, readout, channels, len(tasks))):
        return done
    shift = parallel.from_first(lambda: _mean(readout, features, stages))
    every = np.arange(count)
    fitted, held_out = (
        _moments(readout, features, stages, rows, shift, batch_size, devices)
        for rows in (every[every % HELD_OUT > 0], every[::HELD_OUT])
    )
    targets = np.stack([task_map(task, readout.map_size) for task in tasks])
    ridge = parallel.from_first(lambda: fit_ridge(readout, fitted, held_out, shift, targets))
    if checkpoints is not None:
        checkpoints.save(1, ridge)
    return ridge


def check_images(count: int) -> None:
    """Raises ValueError where there are too few training images to hold any out."""
    if count < 2:
        raise ValueError(
            "--solver=ridge chooses its penalty on training images that it holds out, and needs 2 "
            f"or more, found {count}"
        )


def gram_bytes(columns: int) -> int:
    """The size of a Gram matrix of so many columns, in float64."""
    return 8 * columns**2


def check_room(columns: int, devices: Sequence[jax.Device]) -> int:
    """Bytes of main memory that a fit needs.

    Four Gram matrices while it is solved: of the images fitted and of those held out, and the
    system with LAPACK's copy of it. Before, three in float32 on every device.

    Raises:
        ValueError: the machine has not as much.
    """
    on_devices = sum(device.platform == "cpu" for device in devices) * 3 * gram_bytes(columns) // 2
    needed = max(4 * gram_bytes(columns), gram_bytes(columns) + on_devices)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(
            f"--solver=ridge needs {needed / 1e9:,.1f} GB of memory for the Gram matrix of "
            f"{columns:,} columns (kernel size² × channels), and this machine has "
            f"{there / 1e9:,.1f} GB: choose fewer --stages or smaller --kernel_sizes"
        )
    return needed


def _moments(
    readout: LinearReadout,
    features: Features,
    stages: Sequence[str],
    rows: np.ndarray,
    shift: Float[np.ndarray, " c"],
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Moments:
    start_sums, step = _steps(readout, tuple(devices))
    shifts = parallel.replicate(shift, devices)
    sums = start_sums(shifts)
    own = parallel.own(rows)
    batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    with progress.bar(len(own), "sum products", "images") as bar:
        for batch, values in zip(batches, features.stream(batches, stages), strict=True):
            shards, mask = parallel.split(values, batch_size, devices)
            sums = step(sums, shards, shifts, mask)
            progress.advance(bar, len(batch))
        value, lost = parallel.total(sums)
    return moments(jax.tree.map(np.add, value, lost), len(rows))


def start_step(readout: LinearReadout) -> Callable:
    """The step that maps a shift [c] to the sums over no images, on one device of several."""

    def start_sums(shift: Float[Array, " c"]) -> Compensated:
        return no_sums(readout, len(shift))

    return start_sums


def sum_step(readout: LinearReadout) -> Callable:
    """The step that maps (sums, stages, shift [c], mask [n]) to the sums with n more images."""

    def sum_products(
        sums: Compensated, stages: Stages, shift: Float[Array, " c"], mask: Float[Array, " n"]
    ) -> Compensated:
        return add_images(readout, sums, columns_of(readout, stages), shift, mask)

    return sum_products


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _steps(readout: LinearReadout, devices: tuple[jax.Device, ...]) -> tuple[Callable, Callable]:
    start = parallel.pmap(start_step(readout), devices)
    return start, parallel.pmap(sum_step(readout), devices, donate_argnums=(0,))


def _restored(
    checkpoints: Checkpoints | None, readout: LinearReadout, channels: int, tasks: int
) -> Ridge | None:
    if checkpoints is None:
        return None
    done, found = checkpoints.restore(_nothing(readout, channels, tasks))
    return found if done else None


def _mean(
    readout: LinearReadout, features: Features, stages: Sequence[str]
) -> Float[np.ndarray, " c"]:
    sample = features.rows(np.arange(min(SAMPLE, len(features))), stages)
    columns = jax.jit(functools.partial(columns_of, readout))(sample)
    return jax.device_get(columns).mean(axis=(0, 1, 2))


def _nothing(readout: LinearReadout, channels: int, tasks: int) -> Ridge:
    kernel = (tasks, readout.kernel_size, readout.kernel_size, channels, 1)
    conv = {"kernel": np.zeros(kernel, np.float32), "bias": np.zeros((tasks, 1), np.float32)}
    path = len(PENALTIES)
    return Ridge(
        {"params": {"conv1": conv}},
        *(np.zeros(shape) for shape in ((path,), (path, tasks), (tasks,), (tasks,))),
    )
