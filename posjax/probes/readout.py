"""PosENet: the readout that is trained to predict a position map from an encoder's stages."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers import BatchNorm, conv_taps, resize_bilinear

Stages = dict[str, Float[ArrayLike, "n _ _ _"]]


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
                "a readout needs depth >= 1, kernel_size >= 1 and padding >= 0, found "
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
    def align(self, stages: Stages) -> Float[Array, "n h w c"]:
        """The stages at `feature_size`, concatenated, in float32."""
        aligned = [
            resize_bilinear(
                jnp.asarray(stages[name], jnp.float32), self.feature_size, align_corners=True
            )
            for name in sorted(stages)
        ]
        return jnp.concatenate(aligned, axis=-1)

    @nn.compact
    def respond(
        self,
        features: Float[Array, "n h w c"],
        *,
        train: bool = False,
        mask: Float[Array, " n"] | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "n h2 w2"]:
        """The response at `response_size`, in (0, 1); `mask`, `axis_name` as in `BatchNorm`."""
        x = features
        for layer in range(1, self.depth + 1):
            width = features.shape[-1] if layer < self.depth else 1
            x = TapConv(width, self.kernel_size, self.padding, name=f"conv{layer}")(x)
            norm = BatchNorm(name=f"norm{layer}")
            x = norm(x, train=train, mask=mask, axis_name=axis_name)
            x = nn.relu(x) if layer < self.depth else x
        return nn.sigmoid(x[..., 0])

    @nn.nowrap
    def upsample(self, response: Float[Array, "n h w"]) -> Float[Array, "n h2 w2"]:
        """The response at `map_size`."""
        return resize_bilinear(response[..., None], self.map_size, align_corners=False)[..., 0]


class TapConv(nn.Module):
    """A convolution with zero padding and a bias, as matrix products."""

    features: int
    kernel_size: int
    padding: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """The responses of all outputs."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return conv_taps(x, kernel, padding=self.padding) + bias
