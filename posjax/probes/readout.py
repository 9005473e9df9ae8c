"""PosENet: the readout that is trained to predict a position map from an encoder's stages."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.layers import BatchNorm, conv_taps, resize_bilinear, sum_taps, tap_responses

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
    def align(self, stages: Stages, into: Aligned | None = None) -> Aligned:
        """What the first convolution reads, in float32: the stages in the order of their names.

        With several convolutions they are brought to `feature_size` and concatenated. A single
        one has one output, so that it is cheaper to bring its responses to `feature_size`, which
        gives the same: smaller stages stay as they are, and only those of one size are
        concatenated.

        `into`, if given, is what an earlier batch gave: a step that donates it writes into its
        memory, where new memory would take longer to get than to fill.
        """
        features = [jnp.asarray(stages[name]) for name in sorted(stages)]
        if self.depth > 1:
            features = [self._resize(x) for x in features]
        else:
            features = [x if self._is_small(x) else self._resize(x) for x in features]
        of_one_size = itertools.groupby(features, key=lambda x: x.shape[1:3])
        groups = [list(group) for _, group in of_one_size]
        if into is None:
            into = tuple(_room_for(group) for group in groups)
        return tuple(_fill(old, group) for old, group in zip(into, groups, strict=True))

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
            size = self.feature_size if self.depth == 1 else None
            convolution = TapConv(width, self.kernel_size, self.padding, size, name=f"conv{layer}")
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


def _room_for(group: list[Array]) -> Float[Array, "n h w c"]:
    return jnp.zeros((*group[0].shape[:3], sum(x.shape[-1] for x in group)), jnp.float32)


def _fill(old: Float[Array, "n h w c"], group: list[Array]) -> Float[Array, "n h w c"]:
    # As `jnp.concatenate`, in the memory of `old`, and in one loop over all cores where XLA's
    # CPU backend copies part by part on one.
    starts = np.cumsum([0, *(x.shape[-1] for x in group)])
    spread = [
        jnp.pad(jnp.asarray(x, jnp.float32), ((0, 0),) * 3 + ((a, int(starts[-1] - b)),))
        for x, a, b in zip(group, starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    return lax.dynamic_update_slice(old, sum(spread), (0, 0, 0, 0))


class TapConv(nn.Module):
    """A convolution with zero padding and a bias, as matrix products."""

    features: int
    kernel_size: int
    padding: int
    size: tuple[int, int] | None  # that the responses are brought to before they are summed

    @nn.compact
    def __call__(self, parts: Aligned) -> Float[Array, "n h2 w2 d"]:
        """The responses of all outputs."""
        channels = [x.shape[-1] for x in parts]
        shape = (self.kernel_size, self.kernel_size, sum(channels), self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.size is None:
            return conv_taps(parts[0], kernel, padding=self.padding) + bias
        kernels = jnp.split(kernel, np.cumsum(channels[:-1]), axis=2)
        responses = [
            sum_taps(tap_responses(x, k), self.size, padding=self.padding)
            for x, k in zip(parts, kernels, strict=True)
        ]
        return sum(responses) + bias
