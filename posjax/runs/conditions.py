"""Conditions: the encoders that a run compares, and those that are there as controls."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from posjax import encoders
from posjax.encoders import OWN, PIXELS, RANDOM, VALID, Encoder, Padding, Wrapped
from posjax.probes.controls import IMAGE_SHUFFLED, SELECTIVITY, Task
from posjax.runs.settings import CONTROLS, Settings

ROLL = "roll"


@dataclasses.dataclass(frozen=True)
class Condition:
    """A frozen encoder on one kind of images. `seed` draws its weights, where they are random.

    `padding` is None for the pixels. `control` is empty, or what the condition is a control by:
    `pixels`, `random` or `roll`.
    """

    encoder: str | Wrapped
    weights: str
    padding: Padding | None
    seed: int | None
    control: str = ""


def conditions(settings: Settings) -> list[Condition]:
    """What a run probes: every encoder under every padding, then the controls."""
    results: list[Condition] = []
    for name in settings.encoder:
        results += _conditions(settings, name, settings.weights_of(name))
    controls: list[Condition] = []
    if "pixels" in settings.controls and PIXELS not in settings.encoder:
        controls += _conditions(settings, PIXELS, (), "pixels")
    if "random" in settings.controls:
        for name in settings.encoder:
            if name != PIXELS:
                controls += _conditions(settings, name, (RANDOM,), "random")
    if "roll" in settings.controls:
        controls += [dataclasses.replace(condition, control=ROLL) for condition in results]
    return results + controls


def _conditions(
    settings: Settings, name: str | Wrapped, weights: Iterable[str], control: str = ""
) -> Iterator[Condition]:
    if name == PIXELS:
        yield Condition(name, encoders.NONE, None, None, control)
        return
    for text in weights:
        seeds = settings.seeds if text == RANDOM else (None,)
        for padding, seed in itertools.product(settings.paddings_of(name), seeds):
            yield Condition(name, text, padding, seed, control)


def tasks(settings: Settings, control: str) -> tuple[Task, ...]:
    """What the readouts of a condition draw: position maps, and for a result the control maps too.

    A condition that is a control has position maps alone.
    """
    kinds = [""]
    if not control and "selectivity" in settings.controls:
        kinds += SELECTIVITY
    if not control and "floor" in settings.controls:
        kinds.append(IMAGE_SHUFFLED)
    return tuple(Task(name, kind) for kind in kinds for name in settings.maps)


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
    programs = [padding.as_compiled for padding in settings.paddings_of(condition.encoder)]
    compares = programs.count(condition.padding.as_compiled) > 1
    return encoder.with_padding_as_data() if compares else encoder


@dataclasses.dataclass(frozen=True)
class TrainedWeights:
    """The files of trained weights: digests by name, statistics of their images, and notes."""

    digests: dict[str, str]
    statistics: list[str]
    notes: list[str]


def read_trained_weights(settings: Settings, chosen: Iterable[Condition]) -> TrainedWeights:
    """Reads the weights of all conditions, except for random ones.

    Raises:
        ValueError, FileNotFoundError: they cannot be read or do not fit.
    """
    files = {
        (encoders.weights_path(c.weights, c.encoder, c.padding.mode), c.encoder): c.padding
        for c in chosen
        if isinstance(c.encoder, str) and c.padding is not None and c.weights != RANDOM
    }
    paths = [path for path, _ in files]
    digests, statistics, notes = {}, set(), []
    for (path, name), padding in files.items():
        loaded = encoders.read_weights(name, path, padding, 0)
        digests[path if paths.count(path) == 1 else f"{name}: {path}"] = loaded.digest
        if loaded.reading:
            notes.append(f"{path}: the weights are those {loaded.reading}")
        if settings.normalize == "encoder":
            statistics.add(loaded.statistics(path))
            if loaded.normalize is None:
                notes.append(
                    f"{path} does not say how its images were normalised: ImageNet's statistics "
                    "are taken"
                )
    for network in dict.fromkeys(c.encoder for c in chosen if isinstance(c.encoder, Wrapped)):
        digests[f"{network}: {OWN}"] = encoders.frozen(network, OWN).digest
        digests[f"{network}: function"] = network.file or network.program
        statistics.add(network.normalize)
    if settings.normalize != "encoder":
        statistics = {settings.normalize}
    return TrainedWeights(digests, sorted(statistics) or ["none"], notes)


def default_paddings(encoder: Sequence[Any]) -> tuple[Any, ...]:
    """The padding modes that are compared where none are named.

    Without `valid` where an encoder is a network of the user's own: it has its shapes built in.
    """
    has_wrapped = any(isinstance(encoders.find_network(one), Wrapped) for one in encoder)
    return tuple(mode for mode in Settings.paddings if not (has_wrapped and mode == VALID))


def controls_that_apply(values: Mapping[str, Any]) -> tuple[str, ...]:
    """All controls that a run with these settings, given by name, can have.

    A demonstration goes without rolled images.
    """
    encoder, weights = values.get("encoder", ("vgg16",)), values.get("weights", (RANDOM,))
    networks = [encoders.find_network(one) for one in encoder]
    wrapped = [network for network in networks if isinstance(network, Wrapped)]
    has_trained = RANDOM not in weights or len(wrapped) == len(networks)
    left_out = {
        "random": not has_trained or any(network.init is None for network in wrapped),
        "floor": values.get("solver") == "ridge",
        "roll": values.get("preset") == "demo",
    }
    return tuple(name for name in CONTROLS if not left_out.get(name))
