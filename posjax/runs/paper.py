"""The paper's numbers for the same encoder and readout, where it has them."""

import dataclasses
import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

from posjax.runs.records import Summary

ENCODERS = {"pixels": "PosENet", "vgg16": "VGG", "resnet152": "ResNet"}
STRIPES = ("HS", "VS")
_SYNTHETIC = ("black", "white", "noise")
_PHOTOGRAPHS = "PASCAL-S"
_ALL_STAGES = "f1+f2+f3+f4+f5"


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """A number of the paper, and ours of the same encoder, readout, map and kind of images.

    `mae` is as printed: that of the stripes on maps in [-1, 1], twice those of ours.
    """

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
    found = ((summary, _look_up(summary)) for summary in summaries)
    return [Counterpart(summary, *numbers) for summary, numbers in found if numbers]


def _look_up(ours: Summary) -> tuple[str, str, float, float] | None:
    probe = ours.probe
    images = _images(ours.test_images)
    if probe.encoder not in ENCODERS or images is None:
        return None
    if probe.control not in ("", "pixels") or probe.solver != "sgd":
        return None
    encoder, tables = ENCODERS[probe.encoder], _tables()
    pixels = encoder == "PosENet"
    stages = "all" if pixels or probe.stages == _ALL_STAGES else probe.stages
    padding = "zeros" if pixels else probe.padding
    padded = probe.readout_padding
    if padded and not (pixels and (probe.depth, probe.kernel_size) == (1, 3)):
        return None
    match padding, stages, probe.depth, probe.kernel_size:
        case "zeros", "all", 1, 3 if padded:
            table, path = "4", ("table4_padding", ours.map, f"PosENet padding={padded}")
        case "zeros", "all", 1, 3:
            table, path = "1", ("table1", ours.map, encoder, images)
        case "zeros", "all", depth, 3:
            table, path = "2a", ("table2a_depth", ours.map, encoder, str(depth))
        case "zeros", "all", 1, kernel:
            table, path = "2b", ("table2b_kernel", ours.map, encoder, str(kernel))
        case "zeros", stage, 1, 3 if encoder == "VGG":
            table, path = "3", ("table3_blocks_vgg", ours.map, stage)
        case "valid", "all", 1, 3:
            table, path = "4", ("table4_padding", ours.map, f"{encoder}16 without padding")
        case _:
            return None
    if table != "1" and images != _PHOTOGRAPHS:
        return None
    for key in path:
        tables = tables.get(key, {})
    return (table, images, tables["spc"], tables["mae"]) if tables else None


def _images(spec: str) -> str | None:
    if spec in _SYNTHETIC:
        return spec
    return None if spec == "dead_leaves" else _PHOTOGRAPHS


@cache
def _tables() -> dict[str, Any]:
    return json.loads(resources.files("posjax.runs").joinpath("paper_tables.json").read_text())
