"""Arms: the encoders that a run compares, and those that are there as controls."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from posjax import encoders
from posjax.encoders import PIXELS
from posjax.probes.controls import IMAGE_SHUFFLED, SELECTIVITY, Task
from posjax.runs.frozen import FrozenEncoder, freeze
from posjax.runs.settings import RANDOM, Settings

NONE = "none"  # the weights and the padding mode of the pixels
ROLL = "roll"


@dataclasses.dataclass(frozen=True)
class Arm:
    """One frozen encoder on one kind of images; `seed` draws its weights, where they are random.

    `control` is empty, or what the arm is a control by: `pixels`, `random` or `roll`.
    """

    encoder: str
    weights: str
    padding: str
    seed: int | None
    control: str = ""


def arms(settings: Settings) -> list[Arm]:
    """What a run probes: every encoder under every padding mode, then the controls."""
    results = [arm for name in settings.encoder for arm in _arms(settings, name, settings.weights)]
    return [*results, *_controls(settings, results)]


def tasks(settings: Settings, control: str) -> list[Task]:
    """What the readouts of an arm draw: the position maps, and in the results' arms the controls.

    All others are controls themselves and draw the position maps alone.
    """
    controls = [
        *(SELECTIVITY if "selectivity" in settings.controls else ()),
        *((IMAGE_SHUFFLED,) if "floor" in settings.controls else ()),
    ]
    kinds = ["", *([] if control else controls)]
    return [Task(name, kind) for kind in kinds for name in settings.maps]


def recipe_of(settings: Settings, encoder: str, available: Iterable[str]) -> Settings:
    """The settings as they apply to an encoder with the stages that are available.

    `each` becomes every stage; pixels have a single one, whatever is selected.
    """
    if encoder == PIXELS:
        return dataclasses.replace(settings, stages=("all",))
    each = [tuple(available) if text == "each" else (text,) for text in settings.stages]
    return dataclasses.replace(settings, stages=tuple(itertools.chain(*each)))


def frozen(settings: Settings, arm: Arm) -> FrozenEncoder:
    """The encoder of an arm, see `freeze`; its padding is data where the run compares several."""
    shared = map(encoders.shared_padding, settings.paddings_of(arm.encoder))
    as_data = sum(one == encoders.shared_padding(arm.padding) for one in shared) > 1
    return freeze(
        arm.encoder,
        arm.weights,
        arm.padding,
        pool_padding=settings.pool_padding,
        normalize=settings.normalize,
        dtype=settings.dtype,
        seed=arm.seed,
        as_data=as_data,
    )


def _arms(
    settings: Settings, name: str, weights: Iterable[str], control: str = ""
) -> Iterator[Arm]:
    if name == PIXELS:
        yield Arm(name, NONE, NONE, None, control)
        return
    for each in weights:
        seeds = settings.seeds if each == RANDOM else (None,)
        for padding, seed in itertools.product(settings.paddings_of(name), seeds):
            yield Arm(name, each, padding, seed, control)


def _controls(settings: Settings, results: list[Arm]) -> Iterator[Arm]:
    if "pixels" in settings.controls and PIXELS not in settings.encoder:
        yield from _arms(settings, PIXELS, (), "pixels")
    if "random" in settings.controls:
        for name in settings.encoder:
            if name != PIXELS:
                yield from _arms(settings, name, (RANDOM,), "random")
    if "roll" in settings.controls:
        for arm in results:
            yield dataclasses.replace(arm, control=ROLL)
