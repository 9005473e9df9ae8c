"""What VGG and ResNet share: the padded convolution layer and the refusal of small images."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from posjax.layers import MODES, InputTooSmall, Mode, conv

Padding = str | Callable[[str], Mode]
Stages = dict[str, Float[Array, "n _ _ _"]]


class Lattice(NamedTuple):
    """Where the responses of a stage lie, in pixels of the image.

    `stride` from one to the next; `reach` of the padding beyond the border, as far as the first
    response of a padded encoder sees it; `field`, what one response sees: its receptive field.
    """

    stride: int
    reach: int
    field: int


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
    def __call__(self, x: Float[ArrayLike, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Convolves in `dtype`; the parameters stay in float32."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape).astype(self.dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return conv(x.astype(self.dtype), kernel, bias, stride=self.stride, mode=self.mode)


def mode_at(padding: Padding, layer: str, modes: tuple[str, ...] = MODES) -> Mode:
    """The padding mode of one layer, named as in PyTorch: `features.0`, `layer1.0.conv1`.

    A function may return an integer in place of a word, see `posjax.layers.pad`.

    Raises:
        ValueError: `padding`, or what it returns for this layer, is none of `modes`.
    """
    if isinstance(padding, str):
        mode, switched = split_padding(padding)
        mode = switched.get(layer, mode)
    else:
        mode = padding(layer)
    is_data = isinstance(mode, jax.Array | np.ndarray | np.integer)
    if not is_data and mode not in modes:
        raise ValueError(
            f"padding mode {mode!r} for layer {layer} is unknown; "
            f"expected one of {', '.join(modes)}"
        )
    return mode


def is_valid(mode: Mode) -> bool:
    """Whether a layer has no padding; a mode that is an integer always keeps the size."""
    return isinstance(mode, str) and mode == "valid"


def split_padding(text: str) -> tuple[str, dict[str, str]]:
    """The mode of all layers, and of those that are switched to another: `zeros+conv1=reflect`."""
    mode, *switches = text.split("+")
    pairs = [switch.partition("=") for switch in switches]
    return mode, {layer: other for layer, _, other in pairs}


def base_mode(text: str) -> str:
    """The mode of all layers that are not switched: `zeros` of `zeros+conv1=reflect@cropped`."""
    return split_padding(text.partition("@")[0])[0]


def check_head(encoder: nn.Module) -> None:
    """Raises ValueError where an encoder without a classifier head is asked for its scores."""
    if encoder.num_classes is None:
        raise ValueError("this encoder has no classifier head: create it with num_classes")


@contextlib.contextmanager
def small_images_refused(
    encoder: nn.Module, images: Float[ArrayLike, "n h w 3"], method: str = "stages"
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
            f"under padding {encoder.padding!r}: the smallest that works is "
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
