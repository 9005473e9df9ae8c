"""What all encoders share: the padded convolution layer and the refusal of small images."""

import bisect
import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from posjax.layers import MODES, Arrays, InputTooSmall, Mode, conv
from posjax.layers.network_padding import Padding, PaddingLike

Stages = dict[str, Float[Array, "n _ _ _"]]


class ReceptiveField(NamedTuple):
    """Where the responses of a stage lie, in pixels of the image.

    `stride` from one response to the next; `reach`, how far padding extends beyond the border for
    the first response of a padded encoder; `size`, the side of what one response sees.
    """

    stride: int = 1
    reach: int = 0
    size: int = 1

    def after(self, kernel: int, stride: int = 1, padding: int = 0) -> "ReceptiveField":
        """The receptive field behind one more layer with a kernel of `kernel` pixels a side."""
        reach = self.reach + padding * self.stride
        return ReceptiveField(stride * self.stride, reach, self.size + (kernel - 1) * self.stride)


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
        kernel = self.param("kernel", he_normal, shape, jnp.float32).astype(self.dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            bias = bias.astype(self.dtype)
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
    if not isinstance(mode, jax.Array | np.ndarray | np.integer) and mode not in modes:
        raise ValueError(
            f"padding mode {mode!r} for layer {layer} is unknown; "
            f"expected one of {', '.join(modes)}"
        )
    return mode


def is_valid(mode: Mode) -> bool:
    """Whether a layer has no padding. A mode that is an integer always keeps the size."""
    return isinstance(mode, str) and mode == "valid"


class Backbone(nn.Module):
    """What all encoders have in common: stages from images, and class scores from stages.

    A subclass gives `stages` and `receptive_fields`, and `_head` if it can have a classifier.
    `padding` and `pool_padding` are those of `create`. In training BatchNorm's statistics are taken
    over all devices of `axis_name`.
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
            InputTooSmall: as `__call__`.
        """
        if self.num_classes is None:
            raise ValueError("this encoder has no classifier head: create it with num_classes")
        with small_images_refused(self, images, "scores"):
            return self.scores(images, train=train)

    def scores(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Array:
        """As `logits`, but a map that is too small raises the layer's own error."""
        return self._head(self.stages(images, train=train), train=train)

    def stages(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """As `__call__`, but a map that is too small raises the layer's own error."""
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
    """Raises InputTooSmall with the size that would do where a layer finds its map too small."""
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
    """The smallest side of a square image that `method` can do with."""

    def works(size: int) -> bool:
        try:
            abstract_init(encoder, size, size, method)
        except InputTooSmall:
            return False
        return True

    high = 1
    while not works(high):
        high *= 2
    return bisect.bisect_left(range(high), True, lo=high // 2 + 1, key=works)


def abstract_init(
    encoder: nn.Module, height: int = 64, width: int = 64, method: str = "__call__"
) -> tuple[Any, dict]:
    """Shapes of what `method` gives for one image, and of the variables: nothing is computed."""
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    encoder = encoder.clone(parent=None)

    def init(x: Array) -> Any:
        return encoder.init_with_output(jax.random.key(0), x, method=method)

    return jax.eval_shape(init, image)
