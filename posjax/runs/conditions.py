"""Conditions: the encoders that a run compares, and those that are there as controls."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator

from posjax import encoders
from posjax.encoders import PIXELS, RANDOM, Encoder, Padding
from posjax.probes.controls import IMAGE_SHUFFLED, SELECTIVITY, Task
from posjax.runs.settings import Settings

ROLL = "roll"


@dataclasses.dataclass(frozen=True)
class Condition:
    """A frozen encoder on one kind of images. `seed` draws its weights, where they are random.

    `padding` is None for the pixels. `control` is empty, or what the condition is a control by:
    `pixels`, `random` or `roll`.
    """

    encoder: str
    weights: str
    padding: Padding | None
    seed: int | None
    control: str = ""


def conditions(settings: Settings) -> list[Condition]:
    """What a run probes: every encoder under every padding, then the controls."""
    results = [
        condition
        for name in settings.encoder
        for condition in _conditions(settings, name, settings.weights)
    ]
    return [*results, *_controls(settings, results)]


def tasks(settings: Settings, control: str) -> list[Task]:
    """What the readouts of a condition draw: position maps, and for a result the control maps too.

    A condition that is a control has position maps alone.
    """
    controls = [
        *(SELECTIVITY if "selectivity" in settings.controls else ()),
        *((IMAGE_SHUFFLED,) if "floor" in settings.controls else ()),
    ]
    kinds = ["", *([] if control else controls)]
    return [Task(name, kind) for kind in kinds for name in settings.maps]


def load_encoder(settings: Settings, condition: Condition) -> Encoder:
    """The encoder of a condition. Its padding is data where the run compares several paddings.

    Raises:
        ValueError, FileNotFoundError: its weights cannot be read or do not fit.
    """
    encoder = encoders.frozen(
        condition.encoder,
        condition.weights,
        condition.padding or "zeros",
        seed=condition.seed or 0,
        pool_padding=settings.pool_padding,
        normalize=settings.normalize,
        dtype=settings.dtype,
    )
    if condition.padding is None:
        return encoder
    programs = Counter(padding.shared for padding in settings.paddings_of(condition.encoder))
    compares = programs[condition.padding.shared] > 1
    return encoder.with_padding_as_data() if compares else encoder


def _conditions(
    settings: Settings, name: str, weights: Iterable[str], control: str = ""
) -> Iterator[Condition]:
    if name == PIXELS:
        yield Condition(name, encoders.NONE, None, None, control)
        return
    for text in weights:
        seeds = settings.seeds if text == RANDOM else (None,)
        for padding, seed in itertools.product(settings.paddings_of(name), seeds):
            yield Condition(name, text, padding, seed, control)


def _controls(settings: Settings, results: list[Condition]) -> Iterator[Condition]:
    if "pixels" in settings.controls and PIXELS not in settings.encoder:
        yield from _conditions(settings, PIXELS, (), "pixels")
    if "random" in settings.controls:
        for name in settings.encoder:
            if name != PIXELS:
                yield from _conditions(settings, name, (RANDOM,), "random")
    if "roll" in settings.controls:
        for condition in results:
            yield dataclasses.replace(condition, control=ROLL)
