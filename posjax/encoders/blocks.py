"""What VGG and ResNet share: the padded convolution layer and the refusal of small images."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from posjax.encoders.padding import Padding, PaddingLike
from posjax.layers import MODES, Arrays, InputTooSmall, Mode, conv

Stages = dict[str, Float[Array, "n _ _ _"]]


class ReceptiveField(NamedTuple):
    """Where the responses of a stage lie, in pixels of the image.

    `stride` from one response to the next; `reach`, how far padding extends beyond the border for
    the first response of a padded encoder; `size`, the side of what one response sees.
    """

    stride: int
    reach: int
    size: int


# He et al. 2015, as torchvision initialises VGG and ResNet.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nn.Module):
    """A convolution padded by kernel // 2 under one padding mode, in words or as an integer."""

    features: int
    kernel_size: int
    stride: int = 1
    mode: Mode = "zeros"
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Arrays, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Convolves in `dtype`; the parameters stay in float32."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape).astype(self.dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return conv(x.astype(self.dtype), kernel, bias, stride=self.stride, mode=self.mode)


def mode_at(padding: PaddingLike, layer: str, modes: tuple[str, ...] = MODES) -> Mode:
    """The padding mode of one layer, named as in PyTorch: `features.0`, `layer1.0.conv1`.

    A function may return an integer in place of a word, see `posjax.layers.pad`.

    Raises:
        ValueError: `padding`, or what it returns for this layer, is none of `modes`.
    """
    if isinstance(padding, str) and padding in modes:
        return padding
    mode = (Padding.parse(padding) if isinstance(padding, str) else padding)(layer)
    is_data = isinstance(mode, jax.Array | np.ndarray | np.integer)
    if not is_data and mode not in modes:
        raise ValueError(
            f"padding mode {mode!r} for layer {layer} is unknown; "
            f"expected one of {', '.join(modes)}"
        )
    return mode


def is_valid(mode: Mode) -> bool:
    """Whether a layer has no padding. A mode that is an integer always keeps the size."""
    return isinstance(mode, str) and mode == "valid"


class Backbone(nn.Module):
    """What VGG and ResNet have in common: stages from images, and class scores from stages.

    A subclass gives `stages`, `_head` and `receptive_fields`. `padding` and `pool_padding` are
    those of `create`. In training BatchNorm's statistics are taken over all devices of `axis_name`.
    """

    padding: PaddingLike = "zeros"
    pool_padding: PaddingLike | None = None
    num_classes: int | None = None
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    def __call__(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """Encodes images into {"f1": [n, h1, w1, c1], …}.

        Raises:
            InputTooSmall: the images are too small for the padding; says which size would do.
        """
        with_head = self.is_initializing() and self.num_classes is not None
        with small_images_refused(self, images, "scores" if with_head else "stages"):
            stages = self.stages(images, train=train)
            if with_head:
                self._head(stages, train=train)
        return stages

    def logits(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Array:
        """Class scores [n, num_classes]. In training, dropout takes the rng `dropout`.

        Raises:
            ValueError: the encoder was created without `num_classes`.
            InputTooSmall: the images are too small for the padding; says which size would do.
        """
        if self.num_classes is None:
            raise ValueError("this encoder has no classifier head: create it with num_classes")
        with small_images_refused(self, images, "scores"):
            return self.scores(images, train=train)

    def scores(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Array:
        """The class scores, with the bare error of the layer that finds its map too small."""
        return self._head(self.stages(images, train=train), train=train)

    def stages(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """The stages, with the bare error of the layer that finds its map too small."""
        raise NotImplementedError

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Where the responses of each stage lie, under padding modes that keep the size."""
        raise NotImplementedError

    def _head(self, stages: Stages, *, train: bool) -> Array:
        raise NotImplementedError


@contextlib.contextmanager
def small_images_refused(
    encoder: nn.Module, images: Float[Arrays, "n h w 3"], method: str = "stages"
) -> Iterator[None]:
    """Says which image size would do for `method` where a layer finds its map too small.

    Raises:
        InputTooSmall: the images are too small for the encoder and its padding.
    """
    try:
        yield
    except InputTooSmall as error:
        smallest = smallest_image(encoder, method)
        raise InputTooSmall(
            f"images of {images.shape[1]}x{images.shape[2]} are too small for this encoder "
            f"under padding {encoder.padding}: the smallest that works is "
            f"{smallest}x{smallest} ({error})"
        ) from error


def smallest_image(encoder: nn.Module, method: str = "stages") -> int:
    """The smallest side of a square image that `method` can do with.

    Without padding that is the receptive field of the last stage.
    """
    encoder = encoder.clone(parent=None)

    def works(size: int) -> bool:
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        try:
            jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, method=method), images)
        except InputTooSmall:
            return False
        return True

    high = 1
    while not works(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high
