"""Results: what the readouts of one probe score on single images."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, UInt8

from posjax.probes.controls import Task
from posjax.probes.scores import PenaltyPath, Scores


@dataclasses.dataclass(frozen=True)
class ProbeSpec:
    """What readouts that are fitted together have in common: the encoder and the architecture.

    `padding` and `stages` are texts, as the flags have them. `control` is empty for a result. Else
    it names the kind of control: `pixels`, `random` (the encoder's weights), `roll` (the images),
    `aware_silenced` and `random_silenced` (its channels), or the control of a `controls.Task`.
    """

    encoder: str
    weights: str
    padding: str
    stages: str
    depth: int
    kernel_size: int
    readout_padding: int
    solver: str
    control: str = ""

    @property
    def seeded(self) -> bool:
        """Whether seeds enter: closed forms need none, but random encoders do."""
        return self.solver == "sgd" or self.weights == "random"


Key = tuple[ProbeSpec, str, str]
"""A probe, a position map and the name of a set of test images."""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The first k test images and what the first seed's readout of each map predicts on them."""

    images: UInt8[np.ndarray, "k h w 3"]
    predictions: UInt8[np.ndarray, "t k h2 w2"]


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores of r readouts of one probe: one for each pair of `tasks[i]` and `seeds[i]`.

    A fit in closed form has a single step of `losses`, and seeds None unless the encoder has one.
    """

    probe: ProbeSpec
    tasks: tuple[Task, ...]
    seeds: tuple[int | None, ...]
    map_size: int
    losses: Float[np.ndarray, "steps r"]
    scores: dict[str, Scores]
    galleries: dict[str, Gallery]
    path: PenaltyPath | None = None

    @property
    def maps(self) -> tuple[str, ...]:
        """The position map of every readout."""
        return tuple(task.map for task in self.tasks)


@dataclasses.dataclass(frozen=True)
class ReadoutScores:
    """One readout on one set of test images; its scores are those of r = 1 readouts."""

    key: Key
    task: Task
    seed: int | None
    map_size: int
    scores: Scores


def readouts(results: Iterable[Result]) -> Iterator[ReadoutScores]:
    """Every readout on every set of test images; the control of its task is its probe's."""
    for result in results:
        for test_images, scores in result.scores.items():
            for i, (task, seed) in enumerate(zip(result.tasks, result.seeds, strict=True)):
                control = task.control or result.probe.control
                probe = dataclasses.replace(result.probe, control=control)
                arrays = {k: v for k, v in vars(scores).items() if v is not None}
                row = Scores(**{name: array[i : i + 1] for name, array in arrays.items()})
                key = (probe, task.map, test_images)
                yield ReadoutScores(key, task, seed, result.map_size, row)


def by_key(results: Iterable[Result]) -> dict[Key, list[ReadoutScores]]:
    """Readouts that differ in their seed alone, in the order in which keys first appear."""
    groups: dict[Key, list[ReadoutScores]] = {}
    for readout in readouts(results):
        groups.setdefault(readout.key, []).append(readout)
    return groups
