"""How much work the benchmark does, and on which images."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

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


class Bench(NamedTuple):
    """What a section needs: sizes, the number of turns, and where images are."""

    sizes: Sizes
    turns: int
    images: str | None
    test_images: str | None
    scratch: Path
