"""Frozen encoders: a network, its weights, and the statistics that its inputs are normalised by."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posjax.encoders.blocks import Stages, abstract_init
from posjax.encoders.factory import check_padding, create, margins
from posjax.encoders.modes import layer_modes, with_modes
from posjax.encoders.pixels import PIXELS
from posjax.encoders.statistics import STATISTICS, normalised
from posjax.encoders.weights import Loaded, load_with_info, weights_path
from posjax.encoders.weights.torch_names import HEAD_LAYERS
from posjax.layers import Arrays, InputTooSmall
from posjax.layers.network_padding import VALID, Padding
from posjax.runtime import drawing, random_key

RANDOM = "random"
NONE = "none"  # the weights of the pixels
DTYPES = ("bfloat16", "float32")
NORMALIZATIONS = ("encoder", *STATISTICS)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A network with its weights under a padding, as it is probed.

    `network` is the flax module that computes its stages, in `dtype`. `padding` is None for the
    pixels. `weights` is the text that named them, `seed` that of random weights, else None.
    `digest` is the SHA-256 of the weights' file, or of random arrays. `normalize` names the
    statistics of the inputs.

    Where the padding is data, `modes` are integers, one for each layer that pads, and `network` has
    the padding that they share, see `Padding.as_compiled`. Where it is
    compiled in, `modes` is None.
    """

    name: str
    network: nn.Module
    variables: Any
    padding: Padding | None
    weights: str = RANDOM
    digest: str = ""
    normalize: str = "none"
    pool_padding: str | None = None
    seed: int | None = None
    dtype: str = "float32"
    modes: tuple[int, ...] | None = None

    def apply(self, variables: Any, images: Float[Arrays, "n h w 3"]) -> Stages:
        """The stages {"f1": [n, h1, w1, c1], …} of images in [0, 1], which it normalises."""
        network = self.network
        if self.modes is not None:
            network = with_modes(network, np.array(self.modes, np.int32))
        inputs = normalised(jnp.asarray(images), self.normalize)
        return cast(Stages, network.apply(variables, inputs))

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels of the images before and behind the part that is probed, along both axes."""
        return (0, 0) if self.padding is None else margins(self.name, self.padding)

    @property
    def padding_text(self) -> str:
        """The padding as tables show it: "none" for the pixels."""
        return NONE if self.padding is None else str(self.padding)

    def stage_shapes(self, size: int) -> dict[str, tuple[int, int, int]]:
        """As the function `stage_shapes`, for this encoder."""
        if self.modes is None:
            return _shapes(self.network, size + sum(self.margins))
        # The network knows the modes as integers, for which nothing checks what fits.
        return stage_shapes(self.name, self.padding, size, self.pool_padding)

    def with_padding_as_data(self) -> "Encoder":
        """The same encoder, as a part of a network that serves other padding modes too."""
        if self.padding is None:
            return self
        network = _network(self.name, self.padding.as_compiled, self.pool_padding, self.dtype)
        modes = tuple(layer_modes(network, self.padding).tolist())
        return dataclasses.replace(self, network=network, modes=modes)

    def fingerprint(self) -> dict[str, str | None]:
        """What determines this encoder's stages, given the images."""
        return {
            "encoder": self.name,
            "digest": self.digest,
            "padding": self.padding_text,
            "pool_padding": self.pool_padding,
            "normalize": self.normalize,
            "dtype": self.dtype,
        }


def frozen(
    name: str,
    weights: str = RANDOM,
    padding: str | Padding = "zeros",
    *,
    seed: int = 0,
    pool_padding: str | None = None,
    normalize: str = "encoder",
    dtype: str = "float32",
) -> Encoder:
    """An encoder by name, with its weights, under a padding, as `create` takes these.

    Pixels have neither weights nor a padding, and stay in float32.

    Args:
        weights: `random`, drawn by `seed`; `imagenet`; or a file, in whose path `{padding}` and
            `{encoder}` stand for the padding mode and the encoder. `cifar10` comes with posjax,
            trained under the mode of `padding`, and `cifar10:MODE`, trained under MODE.
        normalize: the statistics of the inputs. `encoder`: those that the weights were trained
            with, which are none for random weights, and ImageNet's for a file that names none.
        dtype: of the convolutions, `float32` or `bfloat16`.

    Raises:
        ValueError, FileNotFoundError: the weights cannot be read or do not fit; an argument has an
            unknown value.
    """
    known = {"normalize": (normalize, NORMALIZATIONS), "dtype": (dtype, DTYPES)}
    for argument, (value, values) in known.items():
        if value not in values:
            raise ValueError(
                f"{argument}: {value!r} is unknown; expected one of {', '.join(values)}"
            )
    if name == PIXELS:
        statistics = "none" if normalize == "encoder" else normalize
        return Encoder(name, create(name), {}, None, NONE, normalize=statistics)
    padding = check_padding(name, Padding.parse(padding))
    loaded = read_weights(name, weights, padding, seed)
    return Encoder(
        name=name,
        network=_network(name, padding, pool_padding, dtype),
        variables=loaded.variables,
        padding=padding,
        weights=weights,
        digest=loaded.digest,
        normalize=loaded.statistics(weights) if normalize == "encoder" else normalize,
        pool_padding=pool_padding,
        seed=seed if weights == RANDOM else None,
        dtype=dtype,
    )


def read_weights(name: str, weights: str, padding: Padding, seed: int) -> Loaded:
    """The weights that `frozen` takes, without the classifier head; read or drawn once.

    Raises:
        ValueError, FileNotFoundError: as `frozen`.
    """
    if weights == RANDOM:
        return _random_weights(name, seed)
    path = weights_path(weights, name, padding.mode)
    # A file that was overwritten is read again.
    stamp = Path(path).stat() if Path(path).is_file() else None
    return _file_weights(name, path, stamp and (stamp.st_mtime_ns, stamp.st_size))


# Cached, because all padding modes of a run share the weights.
@functools.lru_cache(maxsize=4)
def _random_weights(name: str, seed: int) -> Loaded:
    with drawing():
        variables = jax.device_get(_init(name)(random_key(seed)))
    return Loaded(variables, _digest(variables), "none")


@functools.lru_cache(maxsize=4)
def _file_weights(name: str, path: str, stamp: tuple[int, int] | None) -> Loaded:
    loaded = load_with_info(name, path)
    body = {
        kind: {k: leaves for k, leaves in tree.items() if not k.startswith(HEAD_LAYERS)}
        for kind, tree in loaded.variables.items()
    }
    return dataclasses.replace(loaded, variables=body)


@functools.cache
def _init(name: str) -> Callable[[jax.Array], Any]:
    encoder = create(name)  # zero padding fits every image
    quick = {"xla_backend_optimization_level": 1}  # it runs once
    image = np.zeros((1, 32, 32, 3), np.float32)
    return jax.jit(lambda key: encoder.init(key, image), compiler_options=quick)


def _digest(variables: Any) -> str:
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _network(
    name: str, padding: Padding, pool_padding: str | None, dtype: str = "float32"
) -> nn.Module:
    return create(name, padding, pool_padding, dtype=getattr(jnp, dtype))


def stage_shapes(
    name: str, padding: Padding | None, size: int, pool_padding: str | None = None
) -> dict[str, tuple[int, int, int]]:
    """Height, width and channels of every stage, without computing any.

    `size` is the side of the part of the images that is probed, without surroundings.

    Raises:
        InputTooSmall: the images are too small for the encoder under this padding.
    """
    padding = padding or Padding("zeros")
    side = size + sum(margins(name, padding))
    if padding.overrides and VALID not in padding.modes:
        # A mixture of modes fits where each of them fits at every layer. These few are traced once
        # for all mixtures. An ablation of single layers has dozens of mixtures.
        with contextlib.suppress(InputTooSmall):
            plain = [_network(name, Padding(mode), pool_padding) for mode in padding.modes]
            shapes = [_shapes(network, side) for network in plain]
            return shapes[0]
    return _shapes(_network(name, padding, pool_padding), side)


# Cached, because the seeds and image sets of a run share the shapes.
@functools.cache
def _shapes(network: nn.Module, side: int) -> dict[str, tuple[int, int, int]]:
    stages, _ = abstract_init(network, side, side)
    return {name: tuple(x.shape[1:]) for name, x in stages.items()}
