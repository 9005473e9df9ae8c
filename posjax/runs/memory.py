"""The least memory that the parts of a run take, from the shapes of what they compute."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp

from posjax import runtime
from posjax.features import encoded_at_once
from posjax.fitting import FEATURE_SIZE, ReadoutSpec
from posjax.runs.conditions import Condition, tasks
from posjax.runs.settings import Settings
from posjax.runtime import Need

Shapes = Mapping[str, tuple[int, int, int]]
NUMBER = 4  # bytes of float32


def images_need(
    shapes: Shapes, side: int, images: int, dtype: str = "float32", *, backward: bool = False
) -> Need:
    """What a network takes on a device for so many images of `side` pixels.

    The images are there as they come and as the network reads them, and the largest stage, in
    `dtype`. `backward`, for a gradient, needs all stages.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    values = 3 * side**2 + (sum(sizes) if backward else max(sizes))
    return Need(
        f"image_size: a network on {images} images of {side:,} pixels a side at a time",
        "choose a smaller image_size or batch_size",
        device=images * (3 * side**2 + jnp.dtype(dtype).itemsize * values),
    )


def needs(
    settings: Settings,
    parts: Iterable[tuple[Condition, int, Shapes, Sequence[ReadoutSpec]]],
    devices: Sequence[jax.Device],
) -> Iterator[Need]:
    """What a run takes for each condition, the side of its images, its stages and its readouts."""
    batch = math.ceil(settings.batch_size / runtime.hosts())
    encoded = math.ceil(encoded_at_once(batch, devices) / len(devices))
    trained = math.ceil(batch / len(devices))
    for condition, side, shapes, specs in parts:
        yield images_need(shapes, side, encoded, settings.dtype)
        count = len(tasks(settings, condition.control))
        count *= len(settings.seeds_of(condition.seed))
        for spec in specs if settings.solver == "sgd" else ():
            yield from readouts_needs(spec, shapes, count, settings.image_size, trained)


def readouts_needs(
    spec: ReadoutSpec, shapes: Shapes, readouts: int, map_size: int, images: int
) -> Iterable[Need]:
    """What `readouts` that train together take, on a device that sees so many images in a step."""
    smaller = "choose fewer maps, seeds or controls"
    title = f"{readouts:,} readouts of depth {spec.depth} and kernel size {spec.kernel_size}"
    height, width = spec.readout(map_size).response_size
    channels = sum(shapes[name][2] for name in spec.stages)
    offsets = spec.kernel_size**2
    # Parameters and their momentum, once on the host and once on each device.
    numbers = 2 * readouts * offsets * channels * (channels * (spec.depth - 1) + 1)
    if spec.depth == 1:
        # The responses to each offset of the kernel of all readouts, see `conv_as_matmul`.
        sides = (shapes[name][:2] for name in spec.stages)
        largest = max(math.prod(map(min, sizes, FEATURE_SIZE)) for sizes in sides)
        seen = images * largest * offsets * readouts
    else:
        # One readout after the other: its input, and the responses that are kept for gradients.
        seen = images * channels * (math.prod(FEATURE_SIZE) + (spec.depth - 1) * height * width)
    fewer = f"{smaller}, fewer stages, or smaller depths, kernel_sizes or batch_size"
    yield Need(f"depths: to train {title}", fewer, NUMBER * numbers, NUMBER * (numbers + seen))
    maps = NUMBER * readouts * map_size**2
    yield Need(
        f"image_size: position maps of {map_size:,} pixels a side for {title}",
        f"{smaller}, or a smaller image_size",
        maps,
        maps,
    )
