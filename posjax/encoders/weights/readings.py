"""Which arrays of a checkpoint are the weights of an encoder."""

import dataclasses
import re
from collections.abc import Iterator

from posjax.encoders.weights.files import Checkpoint
from posjax.encoders.weights.torch_files import StateDict
from posjax.encoders.weights.torch_names import entries, from_torch, problems, torchvision_names


@dataclasses.dataclass(frozen=True)
class Reading:
    """Arrays of one dict of a checkpoint, by their names less a prefix that all of them share.

    `left_out` are the names in that dict that have not the prefix.
    """

    arrays: StateDict
    nest: str
    prefix: str
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        """What was taken, where that is not the whole file by its names: `of 'model'`."""
        more = len(self.left_out) - _LISTED
        listed = ", ".join(self.left_out[:_LISTED]) + (f" and {more} more" if more > 0 else "")
        parts = {
            f"of {self.nest!r}": self.nest,
            f"with {self.prefix!r} in front of their names": self.prefix,
            f"without {listed}": self.left_out,
        }
        return ", ".join(text for text, part in parts.items() if part)


_LISTED = 10


def read_as(name: str, checkpoint: Checkpoint) -> Reading:
    """The one reading of a checkpoint that fits encoder `name`.

    Every dict of arrays is tried, and in each every prefix under which the encoder's first layer
    is there. Where averaged weights (EMA) fit beside raw ones, the raw ones are taken. Where the
    dict was chosen by its name, no other is tried.

    Raises:
        ValueError: no reading fits, or several do; says which.
    """
    readings = [
        reading
        for nest, arrays in checkpoint.nests.items()
        if not checkpoint.chosen or nest == checkpoint.nest
        for reading in _readings(name, nest, arrays)
    ]
    fitting = [reading for reading in readings if not any(_problems(name, reading).values())]
    raw = [reading for reading in fitting if not _is_averaged(reading)]
    if len(raw or fitting) > 1:
        listed = ", ".join(f"FILE#{f'{r.nest}.{r.prefix}'.strip('.')}" for r in fitting)
        raise ValueError(f"several of its parts fit {name}: choose one as {listed}")
    if fitting:
        return (raw or fitting)[0]
    # The error of the likeliest reading.
    best = min(
        readings or [Reading(checkpoint.arrays, checkpoint.nest, "", ())],
        key=lambda r: sum(map(len, _problems(name, r).values())) + len(r.left_out),
    )
    from_torch(name, best.arrays)
    raise AssertionError("a reading that does not fit was converted")


def _readings(name: str, nest: str, arrays: StateDict) -> Iterator[Reading]:
    first = next(iter(entries(name, None)))
    names = [""] if first in arrays else []
    names += [key.removesuffix(first) for key in arrays if key.endswith(f".{first}")]
    for prefix in names:
        inside = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
        outside = tuple(key for key in arrays if not key.startswith(prefix))
        yield Reading(inside, nest, prefix, outside)


def _is_averaged(reading: Reading) -> bool:
    words = set(re.split(r"[._]", f"{reading.nest}.{reading.prefix}".lower()))
    return bool(words & {"ema", "swa", "average", "averaged", "shadow"})


def _problems(name: str, reading: Reading) -> dict[str, list[str]]:
    return problems(name, torchvision_names(name, reading.arrays))
