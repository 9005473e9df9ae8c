"""What is fitted: readouts of one architecture, one for each target and seed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from posjax.probes import Readout
from posjax.probes.controls import Task
from posjax.probes.scores import PenaltyPath

FEATURE_SIZE = (28, 28)


@dataclasses.dataclass(frozen=True)
class ReadoutSpec:
    """The architecture of a readout: the stages that it reads, and its convolutions."""

    stages: tuple[str, ...]
    depth: int = 1
    kernel_size: int = 3
    padding: int = 0

    def readout(self, map_size: int, *, linear: bool = False) -> Readout:
        """The flax module for position maps of `map_size` pixels a side.

        Raises:
            ValueError: the convolutions leave nothing of the features.
        """
        shape = (self.depth, self.kernel_size, self.padding)
        return Readout(*shape, FEATURE_SIZE, (map_size, map_size), linear)


@dataclasses.dataclass(frozen=True)
class Readouts:
    """Readouts of one architecture that are fitted together, one for each pair of task and seed."""

    readout: Readout
    stages: tuple[str, ...]
    tasks: tuple[Task, ...]
    seeds: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def names(self) -> list[str]:
        """For messages: "map H (shuffled_map), seed 0"."""
        return [
            f"map {task.map}{f' ({task.control})' if task.control else ''}, seed {seed}"
            for task, seed in zip(self.tasks, self.seeds, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The variables of r readouts, stacked along a first axis of r, and their losses.

    A fit in closed form has a single step, and the path of its penalties.
    """

    variables: Any
    losses: Float[np.ndarray, "steps r"]
    path: PenaltyPath | None = None


def select_stages(text: str, available: Sequence[str]) -> tuple[str, ...]:
    """The stages that "f1+f3" or "all" names, in order.

    Raises:
        ValueError: a stage is not available, or named twice.
    """
    names = tuple(available) if text == "all" else tuple(text.split("+"))
    for name in names:
        if name not in available or names.count(name) > 1:
            raise ValueError(
                f"stages: {text!r} must be 'all' or different stages of "
                f"{', '.join(available)} joined by '+'"
            )
    return tuple(sorted(names))
