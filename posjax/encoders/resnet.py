"""ResNets (He et al. 2016): torchvision's for ImageNet, and those of the paper for CIFAR-10."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from posjax.encoders.blocks import Backbone, Conv, ReceptiveField, Stages, is_valid, mode_at
from posjax.layers import MODES, Arrays, BatchNorm, max_pool
from posjax.layers.network_padding import PaddingLike

IMAGENET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
CIFAR_DEPTHS = (20, 32, 44, 56, 110)


class ResNet(Backbone, kw_only=True):
    """Residual network: a stem, then layers of blocks; stages are the stem and the layers.

    For ImageNet the stem is a 7x7 convolution of stride 2 and f1 is taken before its pool; its
    pool `maxpool` reaches over the border and pads by `pool_padding`, by default with the same
    mode as the convolutions. Layers are named as in PyTorch: `conv1`, `layer1.0.conv1`, ….
    """

    blocks: Sequence[int]
    bottleneck: bool = False
    cifar: bool = False

    def setup(self):
        """Lays the layers out under PyTorch's names."""
        width = 16 if self.cifar else 64
        stem = (3, 1) if self.cifar else (7, 2)
        self.conv1 = Conv(width, *stem, mode=mode_at(self.padding, "conv1"), dtype=self.dtype)
        self.bn1 = BatchNorm()
        for i, count in enumerate(self.blocks):
            setattr(self, f"layer{i + 1}", [self._block(i, j, width << i) for j in range(count)])
        if self.num_classes is not None:
            head = nn.Dense(self.num_classes, dtype=jnp.float32)
            setattr(self, "linear" if self.cifar else "fc", head)

    def stages(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """`__call__`, with the bare error of the layer that finds its map too small."""
        x = nn.relu(self.bn1(self.conv1(images), train=train, axis_name=self.axis_name))
        stages = {"f1": x}
        if not self.cifar:
            pool_padding = self.padding if self.pool_padding is None else self.pool_padding
            mode = mode_at(pool_padding, "maxpool", (*MODES, "lowest"))
            x = max_pool(x, window=3, stride=2, padding=0 if is_valid(mode) else 1, mode=mode)
        for i in range(len(self.blocks)):
            for block in getattr(self, f"layer{i + 1}"):
                x = block(x, train=train)
            stages[f"f{i + 2}"] = x
        return stages

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Where the responses of each stage lie, under padding modes that keep the size."""
        stem = ReceptiveField()
        field = stem.after(3, padding=1) if self.cifar else stem.after(7, stride=2, padding=3)
        fields = {"f1": field}
        if not self.cifar:
            field = field.after(3, stride=2, padding=1)
        for i, count in enumerate(self.blocks):
            for j in range(count):
                field = field.after(3, _stride(i, j), padding=1)
                if not self.bottleneck:
                    field = field.after(3, padding=1)
            fields[f"f{i + 2}"] = field
        return fields

    def _block(self, layer: int, index: int, width: int) -> nn.Module:
        grows = index == 0 and (layer > 0 or self.bottleneck)
        shortcut = ("slice" if self.cifar else "conv") if grows else "identity"
        stride, kind = _stride(layer, index), self.bottleneck
        return Block(width, stride, kind, shortcut, self.padding, self.dtype, self.axis_name)

    def _head(self, stages: Stages, *, train: bool) -> Array:
        last = stages[f"f{len(self.blocks) + 1}"]
        return (self.linear if self.cifar else self.fc)(jnp.mean(last, axis=(1, 2)))


def _stride(layer: int, index: int) -> int:
    return 2 if layer > 0 and index == 0 else 1


class Block(nn.Module):
    """Convolutions around a shortcut: two of 3x3, or a bottleneck's 1x1, 3x3, 1x1.

    The first 3x3 convolution strides, as in torchvision.
    """

    width: int
    stride: int
    bottleneck: bool
    shortcut: str
    padding: PaddingLike
    dtype: DTypeLike
    axis_name: str | None

    def setup(self):
        """Names the layers as PyTorch does."""
        width = self.width
        layers = [(width, 3, self.stride), (width, 3, 1)]  # channels, kernel, stride
        if self.bottleneck:
            layers = [(width, 1, 1), (width, 3, self.stride), (4 * width, 1, 1)]
        name, spacing, lost = str(self.name).replace("_", "."), 1, 0
        for i, (channels, kernel, stride) in enumerate(layers, 1):
            mode = mode_at(self.padding, f"{name}.conv{i}") if kernel == 3 else "zeros"
            # Pixels of the block's input that an unpadded convolution loses at each border.
            lost += spacing * is_valid(mode)
            spacing *= stride
            setattr(self, f"conv{i}", Conv(channels, kernel, stride, mode=mode, dtype=self.dtype))
            setattr(self, f"bn{i}", BatchNorm())
        if self.shortcut == "conv":
            self.downsample = [Conv(layers[-1][0], 1, self.stride, dtype=self.dtype), BatchNorm()]
        self.depth, self.lost = len(layers), lost

    def __call__(self, x: Float[Arrays, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 d"]:
        """Adds the shortcut to the convolutions, then ReLU."""
        x = y = jnp.asarray(x)
        for i in range(1, self.depth + 1):
            conv, norm = getattr(self, f"conv{i}"), getattr(self, f"bn{i}")
            y = norm(conv(y), train=train, axis_name=self.axis_name)
            if i < self.depth:
                y = nn.relu(y)
        return nn.relu(y + self._shortcut(x, y.shape, train))

    def _shortcut(self, x: Array, shape: tuple[int, ...], train: bool) -> Array:
        """The shortcut of `x` at the places of a response of `shape`.

        Pixels that unpadded convolutions lose are cropped before the stride, so that each response
        meets the pixel that it is centred on.
        """
        if self.lost:
            height, width = ((size - 1) * self.stride + 1 for size in shape[1:3])
            x = x[:, self.lost : self.lost + height, self.lost : self.lost + width]
        if self.shortcut == "conv":
            conv, norm = self.downsample
            return norm(conv(x), train=train, axis_name=self.axis_name)
        if self.shortcut == "slice":
            # Option A of He et al. 2016: every other pixel, new channels filled with zeros.
            extra = shape[-1] - x.shape[-1]
            channels = (extra // 2, extra - extra // 2)
            x = x[:, :: self.stride, :: self.stride]
            return jnp.pad(x, ((0, 0), (0, 0), (0, 0), channels))
        return x
