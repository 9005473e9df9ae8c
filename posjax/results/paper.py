"""The paper's numbers for the same encoder and readout, where it has them.

Islam, Jia and Bruce, ICLR 2020 (arXiv 2001.08248), Tables 1 to 4 and 6, in `paper_tables.csv`. The
MAE of the stripes HS and VS stands there as printed: on maps in [-1, 1].
"""

import csv
import dataclasses
from collections.abc import Iterable
from functools import cache
from importlib import resources

from posjax.results.summaries import Summary

ENCODERS = ("pixels", "vgg16", "resnet152")
STRIPES = ("HS", "VS")
_SYNTHETIC = ("black", "white", "noise")
_PHOTOGRAPHS = "PASCAL-S"
_ALL_STAGES = "f1+f2+f3+f4+f5"

Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """A number of the paper, and ours of the same encoder, readout, map and kind of images."""

    ours: Summary
    table: str
    test_images: str
    spc: float
    mae: float

    @property
    def rescaled_mae(self) -> float:
        """The paper's MAE on maps in [0, 1], as ours."""
        return self.mae / 2 if self.ours.map in STRIPES else self.mae


def counterparts(summaries: Iterable[Summary]) -> list[Counterpart]:
    """The summaries that have a number in the paper, in their order."""
    pairs = ((summary, _look_up(summary)) for summary in summaries)
    return [Counterpart(summary, *numbers) for summary, numbers in pairs if numbers]


def _look_up(ours: Summary) -> tuple[str, str, float, float] | None:
    probe, images = ours.probe, _images(ours.test_images)
    pixels = probe.encoder == "pixels"
    if images is None or probe.control not in ("", "pixels") or probe.solver != "sgd":
        return None
    key = (
        probe.encoder,
        ours.map,
        images,
        "zeros" if pixels else probe.padding,
        "all" if pixels or probe.stages == _ALL_STAGES else probe.stages,
        *map(str, (probe.depth, probe.kernel_size, probe.readout_padding)),
    )
    numbers = _tables().get(key)
    return numbers and (numbers[0], images, *numbers[1:])


def _images(name: str) -> str | None:
    if name in _SYNTHETIC:
        return name
    return None if name == "dead_leaves" else _PHOTOGRAPHS


@cache
def _tables() -> dict[Key, tuple[str, float, float]]:
    """Table, SPC and MAE. Of a number that stands in several tables, the first one counts."""
    text = resources.files("posjax.results").joinpath("paper_tables.csv").read_text()
    tables: dict[Key, tuple[str, float, float]] = {}
    for table, *key, spc, mae in list(csv.reader(text.splitlines()))[1:]:
        tables.setdefault(tuple(key), (table, float(spc), float(mae)))
    return tables
