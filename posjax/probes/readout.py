"""PosENet: the readout that is trained to predict a position map from an encoder's stages."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers import BatchNorm, resize_bilinear
from posjax.probes.conv_as_matmul import conv_as_matmul

Stages = dict[str, Float[ArrayLike, "n _ _ _"]]
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
    """

    depth: int = 1
    kernel_size: int = 3
    padding: int = 0
    feature_size: tuple[int, int] = (28, 28)
    map_size: tuple[int, int] = (224, 224)

    def __post_init__(self):
        """Refuses a readout that cannot exist."""
        super().__post_init__()
        if self.depth < 1 or self.kernel_size < 1 or self.padding < 0:
            raise ValueError(
                "a readout needs depth >= 1, kernel_size >= 1 and padding >= 0, not "
                f"{self.depth}, {self.kernel_size}, {self.padding}"
            )
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

        Several convolutions read one map: the stages at `feature_size`, concatenated. A single
        one has one output, so it is cheaper to resize its responses, which gives the same: it
        reads the stages as they are, but for those that are larger than `feature_size`.
        """
        features = [jnp.asarray(stages[name]) for name in sorted(stages)]
        if self.depth == 1:
            return tuple(x if self._is_small(x) else self._resize(x) for x in features)
        return (jnp.concatenate([self._resize(x) for x in features], axis=-1),)

    @nn.compact
    def respond(
        self,
        features: Aligned,
        *,
        train: bool = False,
        mask: Float[Array, " n"] | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "n h2 w2"]:
        """The response at `response_size`, in (0, 1); `mask`, `axis_name` as in `BatchNorm`."""
        channels = sum(x.shape[-1] for x in features)
        x = features
        for layer in range(1, self.depth + 1):
            width = channels if layer < self.depth else 1
            size = self.feature_size if layer == 1 else x[0].shape[1:3]
            convolution = ReadoutConv(
                width, self.kernel_size, self.padding, size, name=f"conv{layer}"
            )
            x = convolution(x)
            norm = BatchNorm(name=f"norm{layer}")
            x = norm(x, train=train, mask=mask, axis_name=axis_name)
            x = (nn.relu(x),) if layer < self.depth else x
        return nn.sigmoid(x[..., 0])

    @nn.nowrap
    def upsample(self, response: Float[Array, "n h w"]) -> Float[Array, "n h2 w2"]:
        """The response at `map_size`."""
        return resize_bilinear(response[..., None], self.map_size, align_corners=False)[..., 0]

    def _is_small(self, x: Array) -> bool:
        return x.shape[1] <= self.feature_size[0] and x.shape[2] <= self.feature_size[1]

    def _resize(self, x: Array) -> Array:
        return resize_bilinear(jnp.asarray(x, jnp.float32), self.feature_size, align_corners=True)


class ReadoutConv(nn.Module):
    """A convolution with zero padding and a bias.

    Attributes:
        features: number of outputs.
        kernel_size: height and width of the kernel, in pixels.
        padding: zeros around the input, in pixels.
        size: height and width that each map is resized to; one output only.
    """

    features: int
    kernel_size: int
    padding: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, maps: Aligned) -> Float[Array, "n h2 w2 d"]:
        """Convolves the maps, concatenated; several outputs need a single map."""
        inputs = sum(x.shape[-1] for x in maps)
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
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
