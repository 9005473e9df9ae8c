"""Frozen encoders: a network, its weights, and the statistics that its inputs are normalised by."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from posjax import encoders
from posjax.images import STATISTICS
from posjax.layers import InputTooSmall
from posjax.runs.settings import DTYPES


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
    """An encoder that is probed as it is.

    `modes` are the integers of its padding where that is data: `module` then has the padding of
    all encoders that are compiled together, see `encoders.shared_padding`. They are None where
    `padding` is compiled in.

    `digest` is the SHA-256 of its weights; `normalize` names the statistics of its inputs;
    `seed` is that of random weights and None for weights from a file; `dtype` is that of its
    convolutions.
    """

    name: str
    weights: str
    padding: str
    pool_padding: str | None
    module: nn.Module
    variables: Any
    digest: str
    normalize: str
    seed: int | None
    dtype: str = "float32"
    modes: tuple[int, ...] | None = None

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels of the images before and behind the part that is probed, along both axes."""
        return encoders.margins(self.name, self.padding)

    def shapes(self, height: int, width: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The stages of one image of so many pixels, [1, h, w, c], without computing any.

        Raises:
            InputTooSmall: the image is too small for the encoder under its padding.
        """
        if self.modes is None:
            return shapes_of(self.module, height, width)
        # The module knows integers, which cannot tell what fits.
        return _shapes_under(self.name, self.padding, self.pool_padding, height, width)

    def identity(self) -> dict[str, str | None]:
        """What determines this encoder's stages, given the images."""
        return {
            "encoder": self.name,
            "digest": self.digest,
            "padding": self.padding,
            "pool_padding": self.pool_padding,
            "normalize": self.normalize,
            "dtype": self.dtype,
        }


def freeze(
    name: str,
    weights: str,
    padding: str,
    *,
    pool_padding: str | None = None,
    normalize: str = "encoder",
    dtype: str = "float32",
    seed: int | None = None,
    as_data: bool = False,
) -> FrozenEncoder:
    """An encoder with weights that are `random` (drawn by `seed`), or `imagenet`, or of a file.

    `cifar10` is the encoder that ships with posjax, trained under the very `padding`, and
    `cifar10:MODE` the one that was trained under MODE.

    `{padding}` and `{encoder}` in a path stand for the padding mode and the encoder.
    `normalize="encoder"` takes the statistics that the weights were trained with: none for random
    weights, else what the file says of itself, and where it says nothing, as PyTorch's checkpoints
    do, those of ImageNet. `dtype` is that of the convolutions, float32 or bfloat16. Pixels have
    neither weights nor a padding mode, and compute nothing: all three are then `none`, `none` and
    float32, whatever is asked for.

    `as_data` makes the padding data of a compiled encoder that serves other modes too; otherwise
    it is compiled in.

    Raises:
        ValueError, FileNotFoundError: the weights cannot be read or do not fit, see
            `posjax.encoders.load`.
    """
    if normalize != "encoder" and normalize not in STATISTICS:
        known = ", ".join(("encoder", *STATISTICS))
        raise ValueError(f"--normalize: {normalize!r} is unknown; expected one of {known}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} is unknown; expected one of {', '.join(DTYPES)}")
    as_data = as_data and name != encoders.PIXELS
    compiled_in = encoders.shared_padding(padding) if as_data else padding
    module = _module(name, compiled_in, pool_padding, dtype)
    modes = tuple(encoders.layer_modes(module, padding).tolist()) if as_data else None
    if name == encoders.PIXELS:
        weights, padding, dtype, seed, variables = "none", "none", "float32", None, {}
        statistics = "none"
    elif weights == "random":
        if seed is None:
            raise ValueError("random weights need a seed")
        variables = jax.device_get(_init(name)(jax.random.key(seed)))
        statistics = "none"
    else:
        seed = None
        path = weights_path(weights, name, padding)
        loaded = encoders.load_with_info(name, path)
        variables, statistics = loaded.variables, loaded.normalize or "imagenet"
        if normalize == "encoder" and statistics not in STATISTICS:
            raise ValueError(
                f"{path} was trained with the normalisation {statistics!r}, which is unknown; "
                f"choose --normalize of {', '.join(STATISTICS)}"
            )
    return FrozenEncoder(
        name=name,
        weights=weights,
        padding=padding,
        pool_padding=pool_padding,
        module=module,
        variables=variables,
        digest=_digest(variables),
        normalize=statistics if normalize == "encoder" else normalize,
        seed=seed,
        dtype=dtype,
        modes=modes,
    )


def weights_path(weights: str, name: str, padding: str) -> str:
    """`weights` with what `{encoder}` and `{padding}` stand for; `imagenet` as it is.

    `{padding}` is the mode of all layers that are not switched to another. `cifar10` and
    `cifar10:MODE` become files that ship with posjax.

    Raises:
        ValueError: no such file ships with posjax.
    """
    mode = encoders.base_mode(padding)
    if shipped := encoders.shipped_path(name, weights, mode):
        return str(shipped)
    return weights.replace("{encoder}", name).replace("{padding}", mode)


def stage_shapes(
    name: str, padding: str, image_size: int, pool_padding: str | None = None
) -> dict[str, tuple[int, int, int]]:
    """Height, width and channels of every stage, without computing any.

    `image_size` is that of the part of the images that is probed, without surroundings.

    Raises:
        InputTooSmall: the images are too small for the encoder under this padding.
    """
    side = image_size + sum(encoders.margins(name, padding))
    try:
        stages = _shapes_under(name, padding, pool_padding, side, side)
    except InputTooSmall as error:
        raise InputTooSmall(
            f"--image_size={image_size}: {error}; or leave {padding} out of --paddings"
        ) from error
    return {stage: tuple(array.shape[1:]) for stage, array in stages.items()}


def _shapes_under(
    name: str, padding: str, pool_padding: str | None, height: int, width: int
) -> dict[str, jax.ShapeDtypeStruct]:
    mode, switches = encoders.split_padding(padding)
    words = {mode, *switches.values()}
    if switches and "valid" not in words:
        # A mixture of modes fits where each of them fits at every layer. These few are traced once
        # for all mixtures, of which an ablation of single layers has dozens.
        with contextlib.suppress(InputTooSmall):
            each = [shapes_of(_module(name, word, pool_padding), height, width) for word in words]
            return each[0]
    return shapes_of(_module(name, padding, pool_padding), height, width)


# Cached, because runs ask for them when they plan, and again for every source of images.
@functools.cache
def shapes_of(module: nn.Module, height: int, width: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The stages of one image of so many pixels, [1, h, w, c], without computing any."""
    images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    return jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x)[0], images)


def statistics_of(normalize: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, float32 [3], on images in [0, 1]."""
    mean, std = STATISTICS[normalize]
    return np.broadcast_to(np.float32(mean), 3), np.broadcast_to(np.float32(std), 3)


def normalised(images: UInt8[jax.Array, "n h w 3"], normalize: str) -> Float[jax.Array, "n h w 3"]:
    """Images of 8 bits a value, divided by 255, less the mean and over the deviation."""
    mean, std = statistics_of(normalize)
    return (images.astype(jnp.float32) / 255 - mean) / std


def _module(name: str, padding: str, pool_padding: str | None, dtype: str = "float32") -> nn.Module:
    if name == encoders.PIXELS:
        return encoders.create(name)
    return encoders.create(
        name, padding=padding, pool_padding=pool_padding, dtype=getattr(jnp, dtype)
    )


# Cached, because its compilation serves all seeds.
@functools.cache
def _init(name: str) -> Callable[[jax.Array], Any]:
    # Zero padding fits every image, and no padding mode has parameters of its own.
    encoder = encoders.create(name)
    # It runs once: optimising it would take longer than it does.
    quick = {"xla_backend_optimization_level": 1}
    return jax.jit(lambda key: encoder.init(key, jnp.zeros((1, 32, 32, 3))), compiler_options=quick)


def _digest(variables: Any) -> str:
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
