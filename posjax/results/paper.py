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
_ALL_STAGES = "f1+f2+f3+f4+f5"


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
    pairs = []
    for ours in summaries:
        probe, images = ours.probe, _images(ours.test_images)
        pixels = probe.encoder == "pixels"
        key = (
            probe.encoder,
            ours.map,
            images,
            "zeros" if pixels else probe.padding,
            "all" if pixels or probe.stages == _ALL_STAGES else probe.stages,
            *map(str, (probe.depth, probe.kernel_size, probe.readout_padding)),
        )
        if key in _tables() and probe.control in ("", "pixels") and probe.solver == "sgd":
            table, spc, mae = _tables()[key]
            pairs.append(Counterpart(ours, table, images, spc, mae))
    return pairs


def _images(name: str) -> str:
    """What the paper has in place of these images: it has nothing in place of dead leaves."""
    return name if name in ("black", "white", "noise", "dead_leaves") else "PASCAL-S"


@cache
def _tables() -> dict[tuple[str, ...], tuple[str, float, float]]:
    """Table, SPC and MAE. Of a number that stands in several tables, the first one counts."""
    text = resources.files("posjax.results").joinpath("paper_tables.csv").read_text("utf-8")
    tables: dict[tuple[str, ...], tuple[str, float, float]] = {}
    for table, *key, spc, mae in list(csv.reader(text.splitlines()))[1:]:
        tables.setdefault(tuple(key), (table, float(spc), float(mae)))
    return tables
