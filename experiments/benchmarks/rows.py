"""Rows of the benchmark's tables, and how much work is measured for them."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

MODES = ("zeros", "reflect", "replicate", "circular", "symmetric", "partial")
DATA = "data"  # in place of a padding mode: the modes are an argument


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much work a section does; `table1` is the paper's by default."""

    encoders: tuple[str, ...] = ("vgg16", "resnet50")
    modes: tuple[str, ...] = MODES
    image_size: int = 224
    encoder_batch: int = 8
    batch: int = 32
    epochs: int = 15
    num_train: int = 300
    num_test: int = 100
    torch_epochs: int = 2
    readout_images: int = 128
    readout_counts: tuple[int, ...] = (5, 50)
    depths: tuple[int, ...] = (1, 2, 3)
    training_batch: int = 128
    compiled: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("vgg16", "float32", ("zeros", DATA, "valid")),
        ("vgg16", "bfloat16", ("zeros", DATA, "reflect", "valid")),
        ("resnet50", "bfloat16", ("zeros", DATA)),
        ("resnet152", "bfloat16", ("zeros", DATA)),
    )
    compiled_readouts: tuple[int, ...] = (15, 50)
    compiled_training: str = "resnet50"


SMALL = Sizes(
    encoders=("vgg16",),
    modes=("partial",),
    image_size=32,
    encoder_batch=2,
    batch=4,
    epochs=2,
    num_train=6,
    num_test=3,
    readout_images=8,
    readout_counts=(2,),
    depths=(1,),
    training_batch=4,
    compiled=(("resnet20", "bfloat16", ("zeros", DATA)),),
    compiled_readouts=(2,),
    compiled_training="resnet20",
)


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a section needs: sizes, the number of turns, and where images are."""

    sizes: Sizes
    turns: int
    images: str | None
    test_images: str | None
    scratch: Path


@dataclasses.dataclass(frozen=True)
class Row:
    """One pair: seconds of `a` and of `b` in every turn, and what else there is to tell."""

    section: str
    name: str
    a: str
    b: str
    a_seconds: tuple[float, ...]
    b_seconds: tuple[float, ...]
    sizes: dict[str, Any]
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    TITLE: ClassVar = "a then b in every turn; median [least, most] of the turns"
    HEAD: ClassVar = ("", "a", "b", "seconds of a", "seconds of b", "a / b")
    WIDTHS: ClassVar = (48, 10, 16, 27, 27, 0)

    def ratios(self) -> list[float]:
        """Seconds of `a` over those of `b`, turn by turn."""
        return [a / b for a, b in zip(self.a_seconds, self.b_seconds, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """All that there is to tell, with medians."""
        return dataclasses.asdict(self) | {
            "a_median": statistics.median(self.a_seconds),
            "b_median": statistics.median(self.b_seconds),
            "ratio": statistics.median(self.ratios()),
            "ratio_min": min(self.ratios()),
            "ratio_max": max(self.ratios()),
        }

    def cells(self) -> tuple[str, ...]:
        """What stands below `HEAD`."""
        spreads = (_spread(values) for values in (self.a_seconds, self.b_seconds, self.ratios()))
        return (self.name, self.a, self.b, *spreads)

    def remarks(self) -> list[str]:
        """What stands below the cells."""
        return [self.notes["scaled"]] if "scaled" in self.notes else []


def in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells in columns."""
    return " ".join(f"{c:<{width}}" for c, width in zip(cells, widths, strict=True)).rstrip()


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} [{min(values):.4g}, {max(values):.4g}]"
