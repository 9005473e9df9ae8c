"""Networks of the user's own: any JAX function of images becomes the network of an encoder."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core.primitives import (
    add_p,
    max_p,
    min_p,
    reduce_window_max_p,
    reduce_window_sum_p,
)
from jaxtyping import Float

from posjax.encoders.blocks import ReceptiveField, Stages, mode_at
from posjax.layers import MODES, Arrays, Mode
from posjax.layers.network_padding import LOWEST, VALID, Padding, PaddingLike
from posjax.transforms import PaddedLayer, interpret, maps_of, padded_layers, repad
from posjax.transforms.interpret import Rule, layers_named

OWN = "own"
"""The text for the weights that a network came with."""


@dataclasses.dataclass(frozen=True, eq=False)
class Wrapped:
    """A function `fn(variables, images)` under a padding, as `wrap` takes it.

    It takes the place of a flax module: `apply` gives stages, and `clone` the same function under
    another padding. `image_size` is the side of the images with which it is traced where only its
    layers are asked for. `program` is the digest of what it computes, `file` that of the file that
    defines it, if any.
    """

    name: str
    fn: Callable
    variables: Any = dataclasses.field(repr=False)  # errors of JAX show the network
    stages: tuple[str, ...] = ()
    init: Callable[[jax.Array], Any] | None = None
    normalize: str = "none"
    image_size: int = 224
    known_fields: Mapping[str, ReceptiveField] | None = None
    program: str = ""
    file: str = ""
    padding: PaddingLike = dataclasses.field(default_factory=lambda: Padding("zeros"))
    pool_padding: PaddingLike | None = None

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapped) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple:
        # Compiled programs are kept by it. Not every function can be hashed.
        known = (self.name, id(self.fn), self.program, self.stages, self.image_size)
        return (*known, self.padding, self.pool_padding)

    def clone(self, **changes: Any) -> "Wrapped":
        """The same network with other values of its fields."""
        return dataclasses.replace(self, **changes)

    def apply(self, variables: Any, images: Float[Arrays, "n h w 3"]) -> Stages:
        """The stages of images.

        Raises:
            ValueError: what the function returns are no maps, a stage names no layer, or a layer
                cannot be padded by its mode.
        """
        return self._checked(repad(self._computed, self._mode)(variables, images), len(images))

    def stage_shapes(self, side: int) -> dict[str, tuple[int, int, int]]:
        """Height, width and channels of every stage of images of `side` pixels.

        Raises:
            ValueError: the function takes no images of this size.
        """
        try:
            stages = jax.eval_shape(self.apply, self.variables, _images(side))
        except ValueError:
            raise
        # Whatever a function of the user's own raises.
        except Exception as error:
            raise ValueError(
                f"image_size: {self.name} does not take images of {side} pixels a side: {error}"
            ) from error
        return {name: tuple(x.shape[1:]) for name, x in stages.items()}

    @functools.cached_property
    def layers(self) -> tuple[PaddedLayer, ...]:
        """The layers that pad."""
        return tuple(padded_layers(self._computed, self.variables, _images(self.image_size)))

    def digest_of_program(self) -> str:
        """SHA-256 of the function as JAX lowers it: it changes with what is computed."""
        lowered = jax.jit(self.apply).lower(self.variables, _images(self.image_size))
        return hashlib.sha256(lowered.as_text().encode()).hexdigest()

    def receptive_fields(self) -> Mapping[str, ReceptiveField]:
        """Those that are known, or else those that `find_receptive_fields` finds."""
        return self.known_fields or find_receptive_fields(self)

    @property
    def _computed(self) -> Callable:
        return maps_of(self.fn, self.stages) if self.stages else self.fn

    def _mode(self, layer: PaddedLayer) -> Mode:
        padding = self.padding
        if layer.kind == "max_pool" and self.pool_padding is not None:
            padding = self.pool_padding
        return mode_at(padding, layer, (*MODES, LOWEST))

    def _checked(self, maps: Any, count: int) -> Stages:
        named = dict(maps) if isinstance(maps, Mapping) else {"f1": maps}
        for name, stage in named.items():
            shape = getattr(stage, "shape", None)
            if not isinstance(name, str) or shape is None or len(shape) != 4 or shape[0] != count:
                raise ValueError(
                    f"{self.name}: expected maps [{count}, h, w, c], found {name!r} of shape "
                    f"{shape}: name the layers whose maps are to be taken by stages, of those "
                    "that posjax.layers_of lists"
                )
        return named


def find_receptive_fields(network: Wrapped) -> dict[str, ReceptiveField]:
    """Strides, and how many pixels a response sees, as far as PPP needs them.

    One pixel in the middle of an image is not a number, and so is each response that sees it.
    `size` is never too small, and less than two strides too large. `reach` is 0. Images are made
    larger, up to eight times, until some responses do not see the pixel.

    Raises:
        ValueError: a stage is no even division of the image, or sees the whole image.
    """
    spread = interpret(network.apply, _SUMS)
    for side in (network.image_size * enlarged for enlarged in (1, 2, 4, 8)):
        image = np.full((1, side, side, 3), 0.5, np.float32)
        image[:, side // 2, side // 2] = np.nan
        stages = jax.jit(spread)(network.variables, image)
        fields = {name: _field(side, np.asarray(x, np.float32)) for name, x in stages.items()}
        known = {name: field for name, field in fields.items() if field is not None}
        if len(known) == len(fields):
            return known
    raise ValueError(
        f"{network.name}: the receptive fields of its stages cannot be found: give receptive_fields"
    )


def _by(primitive: Primitive) -> Rule:
    return lambda site, inputs: [primitive.bind(*inputs, **site.equation.params)]


# On a CPU, maxima and minima may leave out what is not a number. Sums do not.
_SUMS = {max_p: _by(add_p), min_p: _by(add_p), reduce_window_max_p: _by(reduce_window_sum_p)}


def _field(side: int, stage: Float[np.ndarray, "1 h w c"]) -> ReceptiveField | None:
    rows, columns = (np.isnan(stage).any(axis=axes).ravel() for axes in ((0, 2, 3), (0, 1, 3)))
    is_divided = len(rows) == len(columns) and side % len(rows) == 0
    if not is_divided or rows.all() or columns.all() or not rows.any():
        return None
    stride = side // len(rows)
    widest = max(int(np.ptp(np.flatnonzero(line))) + 1 for line in (rows, columns))
    return ReceptiveField(stride, 0, (widest + 1) * stride)


def check_own_padding(network: Wrapped, padding: Padding) -> Padding:
    """`padding`, which a network of the user's own must be able to have, by its layers' full names.

    Raises:
        ValueError: it pads in no layer or has no such layer, or it cannot be `valid` or aligned.
    """
    listed = f"layers of {network.name} that pad are {', '.join(network.layers) or 'none'}"
    if not network.layers:
        raise ValueError(f"padding {padding}: {listed}, see posjax.repad")
    if padding.alignment or VALID in padding.modes:
        raise ValueError(
            f"padding {padding}: the layers of {network.name} cannot be {VALID}, because a "
            "function that is traced has its shapes built in"
        )
    overrides = []
    for name, mode in padding.overrides:
        named = layers_named(name, network.layers)
        if len(named) != 1:
            raise ValueError(f"padding {padding} names {len(named)} layers by {name}; {listed}")
        overrides.append((str(named[0]), mode))
    return Padding(padding.mode, tuple(overrides))


def _images(side: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
