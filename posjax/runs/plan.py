"""The plan: what a run will do, how much of it, and what room it takes, told before work starts."""

from collections.abc import Mapping, Sequence

import jax

from posjax.images import Source
from posjax.runs import closed_form, parallel
from posjax.runs.cache import room_taken
from posjax.runs.features import bytes_per_image
from posjax.runs.probe import FEATURE_SIZE, stage_names
from posjax.runs.settings import Settings
from posjax.runs.workdir import describe_devices

Shapes = Mapping[str, Mapping[str, tuple[int, int, int]]]


def plan(
    settings: Settings,
    shapes: Shapes,
    images: Source,
    tests: Mapping[str, Source],
    encoders_count: int,
    normalize: Sequence[str],
    devices: Sequence[jax.Device],
) -> str:
    """One line for each thing worth knowing.

    `shapes` are the stages' [h, w, c] under every padding mode, `encoders_count` the number of
    frozen encoders, `normalize` the statistics that images are normalised by.
    """
    per_encoder = len(list(settings.shapes())) * len(settings.maps)
    ridge = settings.solver == "ridge"
    seeds = 1 if settings.weights == "random" or ridge else len(settings.seeds)
    each = "" if ridge else f" × {seeds} seeds each"
    fitted = "in closed form" if ridge else f"{settings.epochs} epochs"
    counts = [len(images), *(len(source) for source in tests.values())]
    sizes = [
        bytes_per_image(stages, FEATURE_SIZE, settings.feature_dtype) for stages in shapes.values()
    ]
    bytes_of_sets = [
        [size * count for count in counts]
        for size in sizes
        for _ in range(encoders_count // len(sizes))
    ]
    streamed = _streamed(settings, bytes_of_sets)
    drawn = " (drawn anew for each seed)" if settings.weights == "random" else ""
    lines = {
        "encoder": f"{settings.encoder}, {settings.weights} weights{drawn}",
        "paddings": ", ".join(settings.paddings),
        "images": f"{len(images)} of {settings.images}, {settings.image_size} pixels a side",
        "test images": ", ".join(f"{len(source)} of {name}" for name, source in tests.items()),
        "normalize": f"{settings.normalize} ({', '.join(normalize)})",
        "readouts": f"{encoders_count * per_encoder * seeds} = {encoders_count} encoders × "
        f"{per_encoder} maps and shapes{each}, {fitted}",
        "encoder passes": _passes(settings, counts, streamed),
        "features": _room(settings, bytes_of_sets, streamed),
        "devices": describe_devices(devices, parallel.hosts()),
        "workdir": str(settings.workdir),
    }
    if ridge:
        columns = gram_columns(settings, shapes)
        lines["Gram matrix"] = (
            f"{columns:,} columns, {closed_form.gram_bytes(columns) / 1e6:,.0f} MB; "
            f"{closed_form.check_room(columns, devices) / 1e6:,.0f} MB of memory in all"
        )
    return "\n".join(f"{name + ':':<16}{text}" for name, text in lines.items()) + "\n"


def gram_columns(settings: Settings, shapes: Shapes) -> int:
    """How many columns the Gram matrix of the largest readout has."""
    channels = {name: shape[2] for name, shape in next(iter(shapes.values())).items()}
    return max(
        kernel_size**2 * sum(channels[name] for name in stage_names(stages, tuple(channels)))
        for stages, _, kernel_size, _ in settings.shapes()
    )


def _streamed(settings: Settings, bytes_of_sets: Sequence[Sequence[int]]) -> list[list[bool]]:
    """Which image sets of each encoder find no room within --cache_limit_gb."""
    if settings.cache_limit_gb is None:
        return [[False] * len(sets) for sets in bytes_of_sets]
    limit = settings.cache_limit_gb * 1e9
    taken = room_taken(settings.cache_dir) if settings.cache_dir else 0
    found = []
    for sets in bytes_of_sets:
        taken = taken if settings.cache_dir else 0
        found.append([])
        for room in sets:
            fits = taken + room <= limit
            taken += room if fits else 0
            found[-1].append(not fits)
    return found


def _passes(settings: Settings, counts: Sequence[int], streamed: list[list[bool]]) -> str:
    groups = len(list(settings.shapes()))
    reads = [settings.epochs if settings.solver == "sgd" else 1, *[1] * (len(counts) - 1)]
    each = [
        count * (groups * times if anew else 1)
        for sets in streamed
        for count, times, anew in zip(counts, reads, sets, strict=True)
    ]
    text = f"{sum(each):,} images"
    if any(map(any, streamed)):
        text += f", {len(streamed) * sum(counts):,} if all were stored"
    return text


def _room(
    settings: Settings, bytes_of_sets: Sequence[Sequence[int]], streamed: list[list[bool]]
) -> str:
    """What the features of each encoder's image sets take, and how many sets find no room."""
    totals = [sum(sets) for sets in bytes_of_sets]
    if settings.cache_dir:
        text = f"{sum(totals) / 1e6:,.0f} MB in {settings.cache_dir}"
    else:
        text = f"{max(totals) / 1e6:,.0f} MB at a time, deleted at the end"
    if settings.cache_limit_gb is None:
        return text
    text += f", of which --cache_limit_gb allows {settings.cache_limit_gb * 1e3:,.0f} MB"
    held = room_taken(settings.cache_dir) if settings.cache_dir else 0
    if held:
        text += f" with the {held / 1e6:,.0f} MB that are there"
    anew = sum(map(sum, streamed))
    if anew:
        text += (
            f": {anew} of {sum(map(len, streamed))} image sets, less those that are there already, "
            "do not fit and are streamed (encoded anew for each batch, with the same results)"
        )
    return text
