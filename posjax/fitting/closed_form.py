"""Linear readouts of one architecture, fitted in closed form on one read of the features."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Float

from posjax import runtime
from posjax.features import Features
from posjax.fitting.control_targets import task_maps
from posjax.fitting.spec import Fitted, Readouts
from posjax.probes import Readout
from posjax.probes.moments import Moments, add_images, moments, no_sums
from posjax.probes.ridge import fit_ridge
from posjax.runtime import progress

HELD_OUT = 5  # every fifth image, from the first on
SAMPLE = 8  # images whose mean features are subtracted from all


@dataclasses.dataclass(frozen=True)
class Ridge:
    """Ridge regression, see `posjax.probes.ridge`."""

    batch_size: int = 32

    def fit(self, readouts: Readouts, features: Features, devices: Sequence[jax.Device]) -> Fitted:
        """Fits a linear readout to each task.

        Every fifth image is held out to choose the penalties; then all images are fitted. Neither
        seeds nor the order of the images matter, nor, up to rounding in float64, batches and
        devices. `features` and `devices` are those of this host; every host must call this.

        Raises:
            ValueError: there is one image only.
            FloatingPointError: the features are too large for float32.
        """
        check_images(features.total)
        readout = readouts.readout
        shift = runtime.broadcast_object(lambda: _mean(readouts, features))
        images = np.arange(features.total)
        parts = (images[images % HELD_OUT > 0], images[::HELD_OUT])
        fitted, held_out = (
            self._moments(readouts, features, rows, shift, devices) for rows in parts
        )
        targets = task_maps(readout, readouts.tasks)
        ridge = runtime.broadcast_object(
            lambda: fit_ridge(readout, fitted, held_out, shift, targets)
        )
        return Fitted(ridge.variables, ridge.error[None].astype(np.float32), ridge.path)

    def _moments(
        self,
        readouts: Readouts,
        features: Features,
        rows: np.ndarray,
        shift: Float[np.ndarray, " c"],
        devices: Sequence[jax.Device],
    ) -> Moments:
        start, step = _compiled(readouts.readout, tuple(devices))
        shifts = runtime.replicate(shift, devices)
        sums = start(shifts)
        local, size = runtime.local_indices(rows), self.batch_size
        batches = [local[start : start + size] for start in range(0, len(local), size)]
        with progress.bar(len(local), "sum products", "images") as bar:
            stream = features.stream(batches, readouts.stages)
            for batch, values in zip(batches, stream, strict=True):
                shards, mask = runtime.shard_batch(values, size, devices)
                sums = step(sums, shards, shifts, mask)
                progress.advance(bar, len(batch))
            return moments(runtime.sum_over_devices(sums), len(rows))


def check_images(count: int) -> None:
    """Raises ValueError where there are too few training images to hold any out."""
    if count < 2:
        raise ValueError(
            "solver=ridge chooses its penalty on training images that it holds out, and needs 2 "
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
        ValueError: the machine has less.
    """
    on_devices = sum(device.platform == "cpu" for device in devices) * 3 * gram_bytes(columns) // 2
    needed = max(4 * gram_bytes(columns), gram_bytes(columns) + on_devices)
    what = f"solver=ridge, for the Gram matrix of {columns:,} columns (kernel size² × channels),"
    smaller = "choose fewer stages or smaller kernel_sizes"
    on_each = 3 * gram_bytes(columns) // 2
    runtime.check_memory([runtime.Need(what, smaller, needed)], devices[:1])
    runtime.check_memory([runtime.Need(what, smaller, device=on_each)], devices)
    return needed


# Cached, because a compiled step serves all encoders whose stages have the same sizes.
@functools.cache
def _compiled(readout: Readout, devices: tuple[jax.Device, ...]) -> tuple[Callable, Callable]:
    start, step = (functools.partial(fn, readout) for fn in (no_sums, add_images))
    return runtime.pmap(start, devices), runtime.pmap(step, devices, donate_argnums=(0,))


def _mean(readouts: Readouts, features: Features) -> Float[np.ndarray, " c"]:
    sample = features.rows(np.arange(min(SAMPLE, len(features))), readouts.stages)
    columns = jax.jit(readouts.readout.concatenated)(sample)
    return jax.device_get(columns).mean(axis=(0, 1, 2))
