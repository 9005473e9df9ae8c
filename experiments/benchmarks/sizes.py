"""How much work the benchmark does, and on which images."""

import dataclasses

from posjax.layers import MODES

DATA = "data"  # in place of a padding mode: the modes are an argument


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The work of each section; `table1` is the paper's by default.

    `images` and `test_images` are folders of photographs, generated where they are None. `compiled`
    lists what the TPU's compiler gets: encoder, dtype, paddings.
    """

    turns: int = 5
    images: str | None = None
    test_images: str | None = None
    encoders: tuple[str, ...] = ("vgg16", "resnet50")
    modes: tuple[str, ...] = tuple(mode for mode in MODES if mode != "valid")
    image_size: int = 224
    forward_batch: int = 8
    batch: int = 32
    training_batch: int = 128
    epochs: int = 15
    torch_epochs: int = 2
    num_train: int = 300
    num_test: int = 100
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
    forward_batch=2,
    batch=4,
    training_batch=4,
    epochs=2,
    num_train=6,
    num_test=3,
    compiled=(("resnet20", "bfloat16", ("zeros", DATA)),),
    compiled_readouts=(2,),
    compiled_training="resnet20",
)
