"""All that a run depends on."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from posjax import encoders, images, layers, probes
from posjax.encoders.resnet import IMAGENET_BLOCKS

SOLVERS = ("sgd", "ridge")
CONTROLS = ("pixels", "random", "selectivity", "floor", "roll")
RANDOM = "random"  # weights
NORMALIZATIONS = ("encoder", *images.STATISTICS)
DTYPES = ("bfloat16", "float32")  # of encoders' arithmetic, and of stored features


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which readouts are trained, and how; tuples are axes of a grid.

    `stages` are names joined by "+" (`f1+f3`), or `all`; `each` of a run stands for every one.
    The defaults are the paper's recipe.
    The solver `ridge` fits linear readouts, of depth 1, in closed form: `epochs`, `learning_rate`
    and, where the weights are of a file, `seeds` mean nothing to it.
    """

    stages: tuple[str, ...] = ("all",)
    maps: tuple[str, ...] = ("H", "V", "G")
    depths: tuple[int, ...] = (1,)
    kernel_sizes: tuple[int, ...] = (3,)
    readout_paddings: tuple[int, ...] = (0,)
    one_at_a_time: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    solver: str = "sgd"
    batch_size: int = 32
    epochs: int = 15
    learning_rate: float = 0.1
    feature_dtype: str = "bfloat16"

    def __post_init__(self):
        """Refuses what cannot run, by the name of its flag."""
        check_known("maps", self.maps, probes.MAPS)
        check_known("solver", (self.solver,), SOLVERS)
        check_known("feature_dtype", (self.feature_dtype,), DTYPES)
        for axis in ("stages", "maps", "depths", "kernel_sizes", "readout_paddings", "seeds"):
            check_axis(axis, getattr(self, axis))
        check_least("depths", 1, *self.depths)
        if self.solver == "ridge" and self.depths != (1,):
            raise ValueError(
                "--depths must be 1 with --solver=ridge, whose readouts are linear, found "
                f"{', '.join(map(str, self.depths))}"
            )
        check_least("kernel_sizes", 1, *self.kernel_sizes)
        check_least("readout_paddings", 0, *self.readout_paddings)
        check_least("seeds", 0, *self.seeds)
        check_least("batch_size", 1, self.batch_size)
        check_least("epochs", 1, self.epochs)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"--learning_rate must be above 0 and finite, found {self.learning_rate}"
            )

    def shapes(self) -> Iterator[tuple[str, int, int, int]]:
        """Stages, depth, kernel size and padding of each group of readouts.

        The whole grid, or where readouts vary one thing at a time, those that differ from the
        first depth, kernel size and padding in one of them at most.
        """
        first = (self.depths[0], self.kernel_sizes[0], self.readout_paddings[0])
        grid = itertools.product(self.depths, self.kernel_sizes, self.readout_paddings)
        for stages, shape in itertools.product(self.stages, list(grid)):
            changes = sum(a != b for a, b in zip(shape, first, strict=True))
            if changes <= 1 or not self.one_at_a_time:
                yield (stages, *shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Recipe):
    """A whole run: a recipe for every padding mode of every encoder, and its controls.

    `dtype` is that of the encoders' convolutions, `feature_dtype` that in which stages are stored.
    `paddings` are modes; `zeros+layer1.0.conv1=reflect` switches a layer to another mode,
    `zeros+each=reflect` stands for every layer in its turn, and `zeros@cropped` and
    `valid@enlarged` compare on the same responses, see `encoders.matched`.

    `num_train` and `num_test` are None for all images of a source that ends, and `endless_train`
    and `endless_test` of one that does not. `cache_dir` is None where features need not outlive the
    run; what they take on disk is limited to `cache_limit_gb` (1e9 bytes; None for no limit);
    `devices` is 0 for all. The last three make the process one of several hosts, see
    `parallel.joined`.
    """

    encoder: tuple[str, ...]
    weights: tuple[str, ...]
    paddings: tuple[str, ...]
    images: str
    test_images: tuple[str, ...]
    workdir: Path
    pool_padding: str | None = None
    dtype: str = "float32"
    num_train: int | None = None
    num_test: int | None = None
    endless_train: int = 200
    endless_test: int = 100
    controls: tuple[str, ...] = ()
    image_size: int = 224
    normalize: str = "encoder"
    skip_bad_images: bool = False
    manual_dir: Path | None = None
    cache_dir: Path | None = None
    cache_limit_gb: float | None = None
    devices: int = 0
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def __post_init__(self):
        """Refuses what cannot run, by the name of its flag."""
        super().__post_init__()
        check_axis("encoder", self.encoder)
        check_known("encoder", self.encoder, encoders.names())
        check_axis("paddings", self.paddings)
        self._check_paddings()
        check_known("normalize", (self.normalize,), NORMALIZATIONS)
        check_known("dtype", (self.dtype,), DTYPES)
        check_axis("test_images", self.test_images)
        check_known("controls", self.controls, CONTROLS)
        if "floor" in self.controls and self.solver == "ridge":
            raise ValueError(
                "--controls=floor needs --solver=sgd: a linear fit to maps that are shuffled for "
                "each image is the constant, however many images there are"
            )
        check_axis("weights", self.weights)
        if "random" in self.controls and RANDOM in self.weights:
            raise ValueError(
                "--controls=random is a control of trained weights, and --weights=random has them "
                "already"
            )
        if self.pool_padding is not None:
            check_known("pool_padding", (self.pool_padding,), (*layers.MODES, "lowest"))
            padded = [f"resnet{depth}" for depth in IMAGENET_BLOCKS]
            if not set(self.encoder) & set(padded):
                raise ValueError(
                    f"--pool_padding: no pool of {', '.join(self.encoder)} reaches over the "
                    f"border; those of {', '.join(padded)} do"
                )
        check_least("image_size", 2, self.image_size)
        check_least("devices", 0, self.devices)
        check_least("endless_train", 1, self.endless_train)
        check_least("endless_test", 1, self.endless_test)
        if self.cache_limit_gb is not None and not 0 <= self.cache_limit_gb < math.inf:
            raise ValueError(
                f"--cache_limit_gb must be 0 or more and finite, found {self.cache_limit_gb}"
            )
        for name in ("num_train", "num_test"):
            if getattr(self, name) is not None:
                check_least(name, 1, getattr(self, name))
        _check_hosts(self.coordinator_address, self.num_processes, self.process_id)

    def paddings_of(self, encoder: str) -> list[str]:
        """The paddings of one encoder: `zeros+each=reflect` stands for one for each of its layers.

        The pool of the ImageNet ResNets' stem is one of them, unless `pool_padding` sets its mode.
        """
        found = []
        for text in self.paddings:
            mode, each, other = text.partition("+each=")
            names = encoders.padded_layers(encoder) if each else ()
            switched = [n for n in names if n != "maxpool" or self.pool_padding is None]
            found += [f"{mode}+{name}={other}" for name in switched] if each else [text]
        return list(dict.fromkeys(found))

    def _check_paddings(self) -> None:
        for text in self.paddings:
            check_known("paddings", (encoders.base_mode(text),), layers.MODES)
        for name in self.encoder:
            if name == encoders.PIXELS:
                continue
            try:
                for text in self.paddings_of(name):
                    encoders.check_padding(name, text)
            except ValueError as error:
                raise ValueError(f"--paddings: {error}") from error
        of_pool = [text for text in self.paddings if "@" in text or "+maxpool=" in text]
        if of_pool and self.pool_padding is not None:
            raise ValueError(
                f"--pool_padding={self.pool_padding} sets how the pool pads, and so does "
                f"--paddings={of_pool[0]}: leave one out"
            )

    def science(self) -> dict[str, object]:
        """What determines the results: all but where they go and what they are computed on."""
        hosts = ("coordinator_address", "num_processes", "process_id")
        elsewhere = ("workdir", "manual_dir", "cache_dir", "cache_limit_gb", "devices")
        left_out = (*elsewhere, *hosts, *self.unused())
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in left_out}

    def unused(self) -> tuple[str, ...]:
        """The names of the settings that mean nothing to the solver."""
        if self.solver == "sgd":
            return ()
        seeded = RANDOM in (*self.weights, *self.controls)
        return ("epochs", "learning_rate", *(() if seeded else ("seeds",)))


def check_known(flag: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises ValueError where a value is none of those that are known; names the flag."""
    for value in values:
        if value not in known:
            raise ValueError(f"--{flag}: {value!r} is unknown; expected one of {', '.join(known)}")


def check_axis(flag: str, values: tuple) -> None:
    """Raises ValueError where there is no value, one twice, or no tuple of them."""
    if isinstance(values, str) or not values or len(set(values)) < len(values):
        raise ValueError(f"--{flag} needs one or more different values, found {values}")


def check_least(flag: str, least: int, *values: int | float) -> None:
    """Raises ValueError where a value is below `least`; names the flag."""
    for value in values:
        if value < least:
            raise ValueError(f"--{flag} must be {least} or more, found {value}")


def _check_hosts(address: str | None, count: int | None, index: int | None) -> None:
    if address is None and (count is not None or index is not None):
        raise ValueError("--num_processes and --process_id need --coordinator_address")
    if address is None or address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"--coordinator_address must be HOST:PORT or auto, found {address!r}")
    if count is None or index is None or not 0 <= index < count:
        raise ValueError(
            f"--coordinator_address={address} needs --num_processes and a --process_id below it, "
            f"from 0; found {count} and {index}"
        )
