"""All that a run depends on."""

import dataclasses
from pathlib import Path

from posjax import encoders, images, layers, probes

SOLVERS = ("sgd",)
NORMALIZATIONS = ("encoder", *images.STATISTICS)
FEATURE_DTYPES = ("bfloat16", "float32")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The grid and the recipe of a run; tuples are axes of the grid.

    `stages` are names joined by "+" (`f1+f3`), or `all`. `num_train` and `num_test` are None for
    all images of a source that ends. `cache_dir` is None where features need not outlive the run.
    """

    encoder: str
    weights: str
    paddings: tuple[str, ...]
    images: str
    test_images: tuple[str, ...]
    workdir: Path
    pool_padding: str | None = None
    stages: tuple[str, ...] = ("all",)
    maps: tuple[str, ...] = ("H", "V", "G")
    depths: tuple[int, ...] = (1,)
    kernel_sizes: tuple[int, ...] = (3,)
    readout_paddings: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    solver: str = "sgd"
    num_train: int | None = None
    num_test: int | None = None
    image_size: int = 224
    normalize: str = "encoder"
    skip_bad_images: bool = False
    batch_size: int = 32
    epochs: int = 15
    learning_rate: float = 0.1
    feature_dtype: str = "bfloat16"
    cache_dir: Path | None = None
    devices: int = 0

    def __post_init__(self):
        """Refuses what cannot run, by the name of its flag."""
        _expect("encoder", (self.encoder,), encoders.names())
        _expect("paddings", self.paddings, layers.MODES)
        if self.pool_padding is not None:
            _expect("pool_padding", (self.pool_padding,), (*layers.MODES, "lowest"))
        _expect("maps", self.maps, probes.MAPS)
        _expect("solver", (self.solver,), SOLVERS)
        _expect("normalize", (self.normalize,), NORMALIZATIONS)
        _expect("feature_dtype", (self.feature_dtype,), FEATURE_DTYPES)
        axes = ("stages", "depths", "kernel_sizes", "readout_paddings", "seeds", "test_images")
        for name in ("paddings", "maps", *axes):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"--{name} needs one or more different values, found {values}")
        at_least = {
            "depths": 1,
            "kernel_sizes": 1,
            "readout_paddings": 0,
            "seeds": 0,
            "image_size": 2,
            "batch_size": 1,
            "epochs": 1,
            "num_train": 1,
            "num_test": 1,
            "devices": 0,
        }
        for name, least in at_least.items():
            found = getattr(self, name)
            values = found if isinstance(found, tuple) else (found,)
            if any(value is not None and value < least for value in values):
                raise ValueError(f"--{name} must be {least} or more, found {found}")
        if not self.learning_rate > 0:
            raise ValueError(f"--learning_rate must be above 0, found {self.learning_rate}")

    def science(self) -> dict[str, object]:
        """What determines the results: all but where they go and what they are computed on."""
        elsewhere = ("workdir", "cache_dir", "devices")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in elsewhere}


def _expect(flag: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            raise ValueError(f"--{flag}: {value!r} is unknown; expected one of {', '.join(known)}")
