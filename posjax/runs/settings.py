"""All that a run depends on. Each field is a flag of the programs."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from posjax import encoders, layers
from posjax.encoders import DTYPES, NORMALIZATIONS, OWN, PIXELS, RANDOM, Padding, Wrapped
from posjax.encoders.resnet import IMAGENET_BLOCKS
from posjax.images import InMemory
from posjax.runs.fields import (
    MANUAL_DIR,
    SKIP_BAD_IMAGES,
    plain_path,
    result_fields,
    setting,
)
from posjax.runs.host_settings import HostSettings
from posjax.runs.readout_settings import ReadoutSettings

CONTROLS = ("pixels", "random", "selectivity", "floor", "roll")
PRESETS = ("demo", "paper")
_SOURCES = "a folder, tfds:NAME[:SPLIT], dead_leaves, noise, black or white"
_ALL = (
    "all of a folder or dataset; of dead_leaves and noise {{default_num_{0}}}, in the "
    "demonstration {{demo_default_num_{0}}}"
)


def _spec(images: str | InMemory) -> str | InMemory:
    return images if isinstance(images, InMemory) else plain_path(images)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(ReadoutSettings, HostSettings):
    """A whole run: readouts for every padding of every encoder, and controls.

    `paddings` are `Padding`s, or texts that are parsed; `encoder` are names, or networks of the
    user's own; `images` and `test_images` are texts, or arrays as `InMemory`.
    """

    preset: str = setting(
        "paper",
        "Defaults of the other flags: demo (a small random encoder on few small generated images, "
        "in a minute on two cores) or paper (the paper's recipe).",
        choices=PRESETS,
        result=False,
        default_text="paper where encoder, weights or images is given, else demo",
    )
    encoder: tuple[Any, ...] = setting(
        ("vgg16",),
        f"Encoders, of {', '.join(encoders.names())}. pixels is the image itself. "
        "FILE.py:FUNCTION is a network of your own: FUNCTION() returns (fn, variables), and "
        "fn(variables, images) its stages (see posjax.encoders.wrap).",
        demo=("vgg8_bn_quarter",),
        parse=encoders.find_network,
    )
    weights: tuple[str, ...] = setting(
        (RANDOM,),
        "Weights of the encoder: random (other ones for each seed), imagenet, cifar10 (resnet20 "
        "trained under that very padding mode), cifar10:MODE (under MODE), or a .safetensors, "
        ".npz, .pth, .th or .pt file; {padding} and {encoder} in its path stand for the mode and "
        "the encoder. Each of a comma list is probed.",
        parse=plain_path,
    )
    paddings: tuple[Any, ...] = setting(
        ("zeros", "reflect", "replicate", "circular", "valid"),
        f"Padding modes, of {', '.join(layers.MODES)}. zeros+features.0=reflect gives a layer "
        "another mode, zeros+each=reflect stands for every layer in its turn; zeros@cropped and "
        "valid@enlarged compare on the same responses (see experiments.matched_valid).",
        parse=Padding.parse,
    )
    pool_padding: str | None = setting(
        None,
        "Padding of the pool in the stem of the ImageNet ResNets; lowest is PyTorch's −inf.",
        choices=(*layers.MODES, "lowest"),
        default_text="the encoder's padding mode",
    )
    controls: tuple[str, ...] = setting(
        (),
        "What is measured beside the results, into controls.csv and the report: pixels (readouts "
        "on the image itself), random (the encoder with random weights), selectivity (the same "
        "readouts on a shuffled and on a smooth random map), floor (on maps shuffled differently "
        "for each image), roll (images rolled at random, so that content carries no position), "
        "none.",
        choices=CONTROLS,
        needs_values=False,
        default_text="all that apply, in the demonstration without roll",
    )
    images: Any = setting("dead_leaves", f"Training images: {_SOURCES}.", parse=_spec)
    test_images: tuple[Any, ...] = setting(
        ("dead_leaves",),
        f"Test images, may be given several times: {_SOURCES}.",
        repeated=True,
        parse=_spec,
    )
    num_train: int | None = setting(
        None, "Number of training images.", at_least=1, default_text=_ALL.format("train")
    )
    num_test: int | None = setting(
        None,
        "Number of test images from each source. black and white are one image each.",
        at_least=1,
        default_text=_ALL.format("test"),
    )
    default_num_train: int = setting(200, demo=32, at_least=1)
    default_num_test: int = setting(100, demo=16, at_least=1)
    image_size: int = setting(
        224, "Height and width of images and position maps, pixels.", demo=96, at_least=2
    )
    normalize: str = setting(
        "encoder",
        "Statistics that images are normalised by: encoder (those that the weights were trained "
        "with; none for random weights, imagenet for a file that does not say), none (as the "
        "released code does), imagenet or cifar10.",
        choices=NORMALIZATIONS,
    )
    dtype: str = setting(
        "float32",
        "Type of the encoder's convolutions; bfloat16 is faster on TPUs and GPUs, not on a CPU.",
        choices=DTYPES,
    )
    skip_bad_images: bool = setting(False, **SKIP_BAD_IMAGES)
    manual_dir: Path | None = setting(None, **MANUAL_DIR)
    workdir: Path = setting(
        Path("runs/posjax"),
        "Folder for results; started again, a run finishes what is missing.",
        result=False,
        default_text="runs/PROGRAM",
    )
    cache_dir: Path | None = setting(
        None,
        "Folder that keeps the encoder's stages for later runs.",
        result=False,
        default_text="they are kept until their encoder is done",
    )
    cache_limit_gb: float | None = setting(
        None,
        "Most room of the encoder's stages on disk, GB (1e9 bytes), with all that cache_dir holds; "
        "stages that do not fit are encoded again for each batch (0: all), with the same results.",
        at_least=0,
        result=False,
        default_text="no limit",
    )

    def __post_init__(self):
        """Refuses values that cannot run, by the name of the field."""
        super().__post_init__()
        for name in self.encoder:
            self._check_paddings(name)
            if isinstance(name, Wrapped):
                self._check_own(name)
            elif "random" in self.controls and RANDOM in self.weights_of(name):
                raise ValueError(
                    "controls=random is a control of trained weights, and weights=random has them"
                )
        if "floor" in self.controls and self.solver == "ridge":
            raise ValueError(
                "controls=floor needs solver=sgd: a linear fit to maps that are shuffled for each "
                "image is the constant, however many images there are"
            )
        if self.pool_padding is not None:
            self._check_pool()
        self.check_hosts()

    def weights_of(self, encoder: str | Wrapped) -> tuple[str, ...]:
        """The weights of one encoder: a network of the user's own has its own, pixels have none."""
        if isinstance(encoder, Wrapped):
            return (OWN,)
        return () if encoder == PIXELS else self.weights

    def paddings_of(self, encoder: str | Wrapped) -> list[Padding]:
        """The paddings of one encoder: `zeros+each=reflect` stands for one for each of its layers.

        The pool of the ImageNet ResNets' stem is one of them, unless `pool_padding` sets its mode.
        """
        if not any(encoders.EACH in padding.layers for padding in self.paddings):
            return list(self.paddings)
        pools = encoders.pools_that_pad(encoder) if self.pool_padding is not None else ()
        layers = [layer for layer in encoders.padded_layers(encoder) if layer not in pools]
        expanded = itertools.chain(*(padding.expand(layers) for padding in self.paddings))
        return list(dict.fromkeys(expanded))

    def unused(self) -> tuple[str, ...]:
        """The names of the settings that mean nothing to these encoders or to the solver."""
        drawn = any(RANDOM in self.weights_of(encoder) for encoder in self.encoder)
        has_named = any(isinstance(encoder, str) for encoder in self.encoder)
        weights = () if has_named else ("weights",)
        if self.solver == "sgd":
            return weights
        seeds = () if drawn or RANDOM in self.controls else ("seeds",)
        return (*weights, "epochs", "learning_rate", *seeds)

    def identity(self) -> dict[str, object]:
        """What determines the results: a run that goes on must have the same."""
        # The default number of images means nothing where the number itself is given.
        given = [n for n in ("num_train", "num_test") if getattr(self, n) is not None]
        return result_fields(self, [*self.unused(), *(f"default_{name}" for name in given)])

    def _check_paddings(self, encoder: str | Wrapped) -> None:
        if encoder == PIXELS:
            return
        try:
            for padding in self.paddings_of(encoder):
                encoders.check_padding(encoder, padding)
        except ValueError as error:
            raise ValueError(f"paddings: {error}") from error

    def _check_own(self, network: Wrapped) -> None:
        if self.dtype != "float32":
            raise ValueError(f"dtype: {network} computes in its own: leave dtype={self.dtype} out")
        if "random" in self.controls and network.init is None:
            raise ValueError(
                f"controls=random needs random weights of {network}: give init to "
                "posjax.encoders.wrap"
            )

    def _check_pool(self) -> None:
        if not any(map(encoders.pools_that_pad, self.encoder)):
            padded = [f"resnet{depth}" for depth in IMAGENET_BLOCKS]
            raise ValueError(
                f"pool_padding: no pool of {', '.join(map(str, self.encoder))} reaches over the "
                f"border; those of {', '.join(padded)} do"
            )
        for padding in self.paddings:
            if padding.alignment or "maxpool" in padding.layers:
                raise ValueError(
                    f"pool_padding={self.pool_padding} sets how the pool pads, and so does "
                    f"paddings={padding}: leave one out"
                )
