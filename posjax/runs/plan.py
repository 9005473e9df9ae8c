"""The plan: what a run will do, how much of it, and what room it takes, told before work starts."""

from collections.abc import Mapping, Sequence

import jax

from posjax.runs import closed_form, image_sets, parallel
from posjax.runs.arms import Arm, recipe_of, tasks
from posjax.runs.cache import room_taken
from posjax.runs.features import bytes_per_image
from posjax.runs.groups import FEATURE_SIZE, stage_names
from posjax.runs.image_sets import ImageSets
from posjax.runs.settings import RANDOM, Settings
from posjax.runs.workdir import describe_devices

Shapes = Mapping[tuple[str, str], Mapping[str, tuple[int, int, int]]]


def plan(
    settings: Settings,
    arms: Sequence[Arm],
    shapes: Shapes,
    sets: ImageSets,
    normalize: Sequence[str],
    devices: Sequence[jax.Device],
) -> str:
    """One line for each thing worth knowing.

    `shapes` are the stages' [h, w, c] of every encoder and padding mode, `normalize` the statistics
    that images are normalised by.
    """
    ridge = settings.solver == "ridge"
    fitted = "in closed form" if ridge else f"{settings.epochs} epochs"
    counts = [len(sets.images), *map(len, sets.tests.values())]
    made = image_sets.counts_by_size(settings, arms, len(sets))
    where = image_sets.place(made, settings.cache_dir or settings.workdir)
    sizes = [
        bytes_per_image(shapes[arm.encoder, arm.padding], FEATURE_SIZE, settings.feature_dtype)
        for arm in arms
    ]
    bytes_of_sets = [[size * count for count in counts] for size in sizes]
    streamed = _streamed(settings, bytes_of_sets)
    groups = [_groups(settings, arm, shapes) for arm in arms]
    drawn = " (drawn anew for each seed)" if RANDOM in settings.weights else ""
    results = [arm for arm in arms if not arm.control]
    lines = {
        "encoder": f"{', '.join(settings.encoder)}, {', '.join(settings.weights)} weights{drawn}, "
        f"in {settings.dtype}",
        "paddings": ", ".join(settings.paddings),
        "images": f"{len(sets.images)} of {settings.images}, {settings.image_size} pixels a side",
        "test images": ", ".join(f"{len(source)} of {name}" for name, source in sets.tests.items()),
        "images made": image_sets.describe(made, where),
        "normalize": f"{settings.normalize} ({', '.join(normalize)})",
        "readouts": f"{sum(_readouts(settings, arm, shapes) for arm in arms)} on "
        f"{len(results)} encoders and {len(arms) - len(results)} controls, {fitted}",
        "controls": ", ".join(settings.controls) or "none",
        "encoder passes": _passes(settings, counts, streamed, groups),
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
    most = 0
    for (encoder, _), sizes in shapes.items():
        channels = {name: shape[2] for name, shape in sizes.items()}
        for stages, _, kernel_size, _ in recipe_of(settings, encoder, channels).shapes():
            of_stages = sum(channels[name] for name in stage_names(stages, tuple(channels)))
            most = max(most, kernel_size**2 * of_stages)
    return most


def _groups(settings: Settings, arm: Arm, shapes: Shapes) -> int:
    """How many groups of readouts are trained on an arm's stages."""
    recipe = recipe_of(settings, arm.encoder, shapes[arm.encoder, arm.padding])
    return len(list(recipe.shapes()))


def _readouts(settings: Settings, arm: Arm, shapes: Shapes) -> int:
    alone = arm.seed is not None or settings.solver == "ridge"
    groups = _groups(settings, arm, shapes)
    return len(tasks(settings, arm.control)) * groups * (1 if alone else len(settings.seeds))


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


def _passes(
    settings: Settings,
    counts: Sequence[int],
    streamed: list[list[bool]],
    groups_of_arms: Sequence[int],
) -> str:
    reads = [settings.epochs if settings.solver == "sgd" else 1, *[1] * (len(counts) - 1)]
    each = [
        count * (groups * times if anew else 1)
        for sets, groups in zip(streamed, groups_of_arms, strict=True)
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
