"""Frozen encoders: a network, its weights, and the statistics that its inputs are normalised by."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posjax.encoders.blocks import Stages
from posjax.encoders.factory import (
    Network,
    check_padding,
    create,
    margins,
    network_of,
    shapes_of,
    stage_shapes,
)
from posjax.encoders.modes import layer_modes, with_modes
from posjax.encoders.pixels import PIXELS
from posjax.encoders.statistics import STATISTICS, normalised
from posjax.encoders.weights import Loaded, load_with_info, weights_path
from posjax.encoders.weights.torch_names import HEAD_LAYERS
from posjax.encoders.wrapped import OWN, Wrapped
from posjax.layers import Arrays
from posjax.layers.network_padding import Padding
from posjax.runtime import drawing, random_key

RANDOM = "random"
NONE = "none"  # the weights of the pixels
DTYPES = ("bfloat16", "float32")
NORMALIZATIONS = ("encoder", *STATISTICS)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A network with its weights under a padding, as it is probed.

    `network` is the flax module, or the user's own function, that computes its stages, in `dtype`.
    `padding` is None for the pixels. `weights` is the text that named them, `seed` that of random
    weights, else None. `digest` is the SHA-256 of the weights' file, or of arrays. `normalize`
    names the statistics of the inputs.

    Where the padding is data, `modes` are integers, one for each layer that pads, and `network` has
    the padding of all that one compiled network serves, see `Padding.as_compiled`. Where it is
    compiled in, `modes` is None.
    """

    name: str
    network: Network
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
        return (0, 0) if self.padding is None else margins(self._made_of, self.padding)

    @property
    def padding_text(self) -> str:
        """The padding as tables show it: "none" for the pixels."""
        return NONE if self.padding is None else str(self.padding)

    def stage_shapes(self, size: int) -> dict[str, tuple[int, int, int]]:
        """As the function `stage_shapes`, for this encoder."""
        if self.modes is None:
            return shapes_of(self.network, size + sum(self.margins))
        # The network knows the modes as integers, for which nothing checks what fits.
        return stage_shapes(self._made_of, self.padding, size, self.pool_padding)

    def with_padding_as_data(self) -> "Encoder":
        """The same encoder, as a part of a network that serves other padding modes too."""
        if self.padding is None:
            return self
        network = network_of(
            self._made_of, self.padding.as_compiled, self.pool_padding, getattr(jnp, self.dtype)
        )
        modes = tuple(layer_modes(network, self.padding).tolist())
        return dataclasses.replace(self, network=network, modes=modes)

    @property
    def _made_of(self) -> str | Wrapped:
        return self.network if isinstance(self.network, Wrapped) else self.name

    def fingerprint(self) -> dict[str, str | None]:
        """What determines this encoder's stages, given the images."""
        return {
            "encoder": self.name,
            "digest": self.digest,
            "padding": self.padding_text,
            "pool_padding": self.pool_padding,
            "normalize": self.normalize,
            "dtype": self.dtype,
            **({"program": self.network.program} if isinstance(self.network, Wrapped) else {}),
        }


def frozen(
    name: str | Wrapped,
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
        name: one of `names()`, or a network of the user's own, whose weights are `own`.
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
        return Encoder(PIXELS, create(PIXELS), {}, None, NONE, normalize=statistics)
    padding = check_padding(name, Padding.parse(padding))
    loaded = read_weights(name, weights, padding, seed)
    return Encoder(
        name=str(name),
        network=network_of(name, padding, pool_padding, getattr(jnp, dtype)),
        variables=loaded.variables,
        padding=padding,
        weights=weights,
        digest=loaded.digest,
        normalize=loaded.statistics(weights) if normalize == "encoder" else normalize,
        pool_padding=pool_padding,
        seed=seed if weights == RANDOM else None,
        dtype=dtype,
    )


def read_weights(name: str | Wrapped, weights: str, padding: Padding, seed: int) -> Loaded:
    """The weights that `frozen` takes, without the classifier head; read or drawn once.

    Raises:
        ValueError, FileNotFoundError: as `frozen`.
    """
    if isinstance(name, Wrapped):
        return _own_weights(name, weights, seed)
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


def _own_weights(network: Wrapped, weights: str, seed: int) -> Loaded:
    if weights == OWN:
        return Loaded(network.variables, _digest(network.variables), network.normalize)
    if weights != RANDOM or network.init is None:
        has = f"{OWN} or {RANDOM}" if network.init else f"{OWN}: without init there are no others"
        raise ValueError(f"weights: {network} has {has}; found {weights}")
    with drawing():
        variables = jax.device_get(network.init(random_key(seed)))
    return Loaded(variables, _digest(variables), network.normalize)


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
