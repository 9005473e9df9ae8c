"""PosENet: the readout that is trained to predict a position map from an encoder's stages."""

import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from posjax.layers import Arrays, BatchNorm, interpolation_matrix, resize_bilinear
from posjax.probes.conv_as_matmul import conv_as_matmul

Stages = dict[str, Float[Arrays, "n _ _ _"]]
Aligned = tuple[Float[Array, "n _ _ _"], ...]


class Readout(nn.Module):
    """The paper's position encoding module, as in the released PyTorch code.

    The stages are brought to `feature_size` (bilinear, align_corners=True) and concatenated in
    the order of their names. `depth` convolutions follow, each with BatchNorm and ReLU; the last
    has one channel and a sigmoid after them. The response is brought to `map_size` (bilinear,
    align_corners=False).

    `init` and `apply` take the stages; `align`, `respond` and `upsample` are its three steps, so
    that many readouts can share the first and a loss can do without the last.

    Attributes:
        depth: number of convolutions, 1 or more.
        kernel_size: of every convolution, in pixels.
        padding: zeros around every convolution's input, in pixels.
        feature_size: height and width of the aligned stages.
        map_size: height and width of the predicted position map.
        linear: one convolution and nothing else; predictions may leave [0, 1].
    """

    depth: int = 1
    kernel_size: int = 3
    padding: int = 0
    feature_size: tuple[int, int] = (28, 28)
    map_size: tuple[int, int] = (224, 224)
    linear: bool = False

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...  # flax makes it, unlike what checkers think of dataclasses

    def __post_init__(self):
        """Refuses a readout that cannot exist."""
        super().__post_init__()
        if self.depth < 1 or self.kernel_size < 1 or self.padding < 0:
            raise ValueError(
                "a readout needs depth >= 1, kernel_size >= 1 and padding >= 0, not "
                f"{self.depth}, {self.kernel_size}, {self.padding}"
            )
        if self.linear and self.depth != 1:
            raise ValueError(f"a linear readout has depth 1, not {self.depth}")
        if min(self.response_size) < 1:
            raise ValueError(
                f"{self.depth} convolutions of {self.kernel_size}x{self.kernel_size} with "
                f"padding {self.padding} leave nothing of features of {self.feature_size}"
            )

    def __call__(self, stages: Stages, *, train: bool = False) -> Float[Array, "n h w"]:
        """Predicts position maps in (0, 1); `train=True` updates the collection batch_stats."""
        return self.upsample(self.respond(self.align(stages), train=train))

    @property
    def response_size(self) -> tuple[int, int]:
        """Height and width of the last convolution's output."""
        change = self.depth * (2 * self.padding - self.kernel_size + 1)
        return (self.feature_size[0] + change, self.feature_size[1] + change)

    @nn.nowrap
    def align(self, stages: Stages) -> Aligned:
        """What the first convolution reads: the stages in the order of their names.

        Several convolutions read one map, see `concatenated`. A single convolution has one output,
        and it is cheaper to resize its responses: it reads the stages as they are, but for those
        that are larger than `feature_size`.
        """
        if self.depth > 1:
            return (self.concatenated(stages),)
        features = [jnp.asarray(stages[name]) for name in sorted(stages)]
        height, width = self.feature_size
        return tuple(
            x if x.shape[1] <= height and x.shape[2] <= width else self._resize(x) for x in features
        )

    @nn.nowrap
    def concatenated(self, stages: Stages) -> Float[Array, "n h w c"]:
        """The stages at `feature_size`, concatenated in the order of their names, in float32."""
        return jnp.concatenate([self._resize(stages[name]) for name in sorted(stages)], axis=-1)

    @nn.compact
    def respond(
        self,
        features: Aligned,
        *,
        train: bool = False,
        mask: Float[Array, " n"] | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "n h2 w2"]:
        """The response at `response_size`; `mask`, `axis_name` as in `BatchNorm`."""
        channels = sum(x.shape[-1] for x in features)
        maps, size = features, self.feature_size
        for layer in range(1, self.depth + 1):
            width = channels if layer < self.depth else 1
            x = ReadoutConv(width, self.kernel_size, self.padding, size, name=f"conv{layer}")(maps)
            if self.linear:
                return x[..., 0]
            norm = BatchNorm(name=f"norm{layer}")
            x = norm(x, train=train, mask=mask, axis_name=axis_name)
            maps, size = (nn.relu(x) if layer < self.depth else x,), (x.shape[1], x.shape[2])
        return nn.sigmoid(maps[0][..., 0])

    @nn.nowrap
    def upsample(self, response: Float[Array, "n h w"]) -> Float[Array, "n h2 w2"]:
        """The response at `map_size`."""
        return resize_bilinear(response[..., None], self.map_size, align_corners=False)[..., 0]

    @nn.nowrap
    def upsampling_factors(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Q and R of the upsampling along rows and columns, divided by √pixels, in float64."""
        return [_factors(*sizes) for sizes in zip(self.response_size, self.map_size, strict=True)]

    def _resize(self, x: Arrays) -> Array:
        return resize_bilinear(jnp.asarray(x, jnp.float32), self.feature_size, align_corners=True)


@functools.cache
def _factors(low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    return np.linalg.qr(interpolation_matrix(low, high, False) / np.sqrt(high))


class ReadoutConv(nn.Module):
    """A convolution of maps, resized to `size` and concatenated, with zero padding and a bias.

    `features` is the number of outputs. Several outputs need a single map that has this size.
    """

    features: int
    kernel_size: int
    padding: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, maps: Aligned) -> Float[Array, "n h2 w2 d"]:
        """The response [n, h2, w2, features]."""
        inputs = sum(x.shape[-1] for x in maps)
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        if self.features == 1:
            return conv_as_matmul(maps, kernel, size=self.size, padding=self.padding) + bias
        (x,) = maps
        response = lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(1, 1),
            padding=[(self.padding, self.padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.HIGHEST,
        )
        return response + bias
