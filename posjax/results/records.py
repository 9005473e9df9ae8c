"""Results: what readouts score on single images, and one record a readout and set of images."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, UInt8

from posjax.probes import constant_mae
from posjax.probes.controls import Task, task_map
from posjax.probes.scores import PenaltyPath, Scores
from posjax.results.intervals import bootstrap_mean


@dataclasses.dataclass(frozen=True)
class ProbeSpec:
    """What readouts that are fitted together have in common: the encoder and the architecture.

    `padding` and `stages` are texts, as the flags have them. `control` is empty for a result. Else
    it names the kind of control: `pixels`, `random` (the encoder's weights), `roll` (the images),
    or the control of a `controls.Task`.
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

    def probe_of(self, readout: int) -> ProbeSpec:
        """The probe of one readout: with its task's control."""
        control = self.tasks[readout].control or self.probe.control
        return dataclasses.replace(self.probe, control=control)


@dataclasses.dataclass(frozen=True)
class Record:
    """One row of results.csv: one readout on one set of test images.

    `spc` and its interval are None where every prediction is constant; `spc_undefined` counts the
    images where it is. `low` and `high` are bootstrap 95 % intervals over images. `control` is
    that of `ProbeSpec`.
    """

    encoder: str
    weights: str
    padding: str
    stages: str
    map: str
    depth: int
    kernel_size: int
    readout_padding: int
    solver: str
    seed: int | None
    test_images: str
    n_images: int
    spc: float | None
    spc_low: float | None
    spc_high: float | None
    spc_undefined: int
    mae: float
    mae_low: float
    mae_high: float
    mae_constant: float
    skill: float
    control: str


def readouts(results: Iterable[Result]) -> Iterator[tuple[Key, Result, int, Scores]]:
    """Every readout on every set of test images, with its place in its result and scores."""
    for result in results:
        for test_images, scores in result.scores.items():
            for i, task in enumerate(result.tasks):
                yield (result.probe_of(i), task.map, test_images), result, i, scores


def to_records(result: Result) -> list[Record]:
    """The rows of a result, by test images, then readout."""
    rows = []
    for test_images, scores in result.scores.items():
        for i, (task, seed) in enumerate(zip(result.tasks, result.seeds, strict=True)):
            spc, spc_low, spc_high = bootstrap_mean(scores.spc[i : i + 1]) or (None, None, None)
            mae, mae_low, mae_high = bootstrap_mean(scores.mae[i : i + 1])
            constant = float(constant_mae(task_map(task, result.map_size)))
            rows.append(
                Record(
                    map=task.map,
                    seed=seed,
                    test_images=test_images,
                    n_images=scores.mae.shape[1],
                    spc=spc,
                    spc_low=spc_low,
                    spc_high=spc_high,
                    spc_undefined=int(np.isnan(scores.spc[i]).sum()),
                    mae=mae,
                    mae_low=mae_low,
                    mae_high=mae_high,
                    mae_constant=constant,
                    skill=1 - mae / constant,
                    **dataclasses.asdict(result.probe_of(i)),
                )
            )
    return rows
