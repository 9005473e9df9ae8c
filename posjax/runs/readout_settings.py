"""Which readouts are fitted, and how. Each field is a flag of the programs."""

import dataclasses
import itertools
from collections.abc import Iterator

from posjax import probes
from posjax.encoders import DTYPES
from posjax.fitting import SGD, ReadoutSpec, Ridge, select_stages
from posjax.runs.fields import check_fields, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadoutSettings:
    """Which readouts are fitted, and how. Tuples are axes of a grid.

    The defaults are the paper's recipe. The solver `ridge` fits linear readouts, of depth 1, in
    closed form: it has no epochs and no learning rate, and no seeds but those of random encoders.
    """

    stages: tuple[str, ...] = setting(
        ("all",),
        "Stages that the readouts see, joined by +, such as f1+f2; commas separate grid points. "
        "all: all at once; each: every one by itself.",
    )
    maps: tuple[str, ...] = setting(
        ("H", "V", "G"), f"Position maps, of {', '.join(probes.MAPS)}.", choices=probes.MAPS
    )
    depths: tuple[int, ...] = setting((1,), "Numbers of convolutions in the readout.", at_least=1)
    kernel_sizes: tuple[int, ...] = setting((3,), "Readout's kernel sizes, pixels.", at_least=1)
    readout_paddings: tuple[int, ...] = setting(
        (0,), "Zeros around the input of the readout's convolutions, pixels.", at_least=0
    )
    one_at_a_time: bool = setting(
        False,
        "Vary depths, kernel_sizes and readout_paddings one at a time, the others at the first of "
        "their values, in place of the whole grid.",
    )
    seeds: tuple[int, ...] = setting(
        (0, 1, 2), "Seeds of the readout's initial weights, and of random encoders.", at_least=0
    )
    solver: str = setting(
        "sgd",
        "How readouts are fitted: sgd, as in the paper; or ridge, linear readouts (depth 1, no "
        "BatchNorm, no sigmoid) in closed form, whose penalty is chosen on held-out training "
        "images. ridge has no epochs, no learning_rate, and no seeds but those of random encoders.",
        choices=("sgd", "ridge"),
    )
    batch_size: int = setting(32, "Images in a step, over all devices.", demo=4, at_least=1)
    epochs: int = setting(15, "Passes over the training images.", demo=6, at_least=1)
    learning_rate: float = setting(
        0.1, "Learning rate of the readouts; a tenth of it after 2/3 of the epochs.", above=0
    )
    feature_dtype: str = setting("bfloat16", "How the encoder's stages are stored.", choices=DTYPES)

    def __post_init__(self):
        """Refuses values that cannot run, by the name of the field."""
        check_fields(self)
        if self.solver == "ridge" and self.depths != (1,):
            raise ValueError(
                "depths must be 1 with solver=ridge, whose readouts are linear, found "
                f"{', '.join(map(str, self.depths))}"
            )

    @property
    def fitter(self) -> SGD | Ridge:
        """The solver with its numbers."""
        if self.solver == "ridge":
            return Ridge(self.batch_size)
        return SGD(self.epochs, self.learning_rate, self.batch_size)

    def seeds_of(self, encoder_seed: int | None) -> tuple[int | None, ...]:
        """The seeds of an encoder's readouts, given that of its weights, if they are random."""
        if encoder_seed is not None:
            return (encoder_seed,)
        return (None,) if self.solver == "ridge" else self.seeds

    def specs(self, available: tuple[str, ...]) -> Iterator[ReadoutSpec]:
        """The architectures of an encoder with the stages `available`.

        They are the whole grid, or those that differ from the first depth, kernel size and padding
        in one of the three at most.

        Raises:
            ValueError: a stage is not available.
        """
        texts = [available if text == "each" else (text,) for text in self.stages]
        if available == ("f1",):  # pixels have a single stage, whatever is selected
            texts = [("all",)]
        first = (self.depths[0], self.kernel_sizes[0], self.readout_paddings[0])
        grid = list(itertools.product(self.depths, self.kernel_sizes, self.readout_paddings))
        for text, shape in itertools.product(itertools.chain(*texts), grid):
            changes = sum(a != b for a, b in zip(shape, first, strict=True))
            if changes <= 1 or not self.one_at_a_time:
                yield ReadoutSpec(select_stages(text, available), *shape)
