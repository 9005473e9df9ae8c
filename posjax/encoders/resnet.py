"""ResNets (He et al. 2016): torchvision's for ImageNet, and those of the paper for CIFAR-10."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from posjax.encoders.blocks import (
    Backbone,
    Conv,
    ReceptiveField,
    Stages,
    is_valid,
    mode_at,
)
from posjax.encoders.padding import PaddingLike
from posjax.layers import MODES, Arrays, BatchNorm, Mode, max_pool

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
            head = nn.Dense(self.num_classes)
            setattr(self, "linear" if self.cifar else "fc", head)

    def stages(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """The stages, with the bare error of the layer that finds its map too small."""
        x = nn.relu(self.bn1(self.conv1(images), train=train, axis_name=self.axis_name))
        stages = {"f1": x}
        if not self.cifar:
            x = self._stem_pool(x)
        for i in range(len(self.blocks)):
            for block in getattr(self, f"layer{i + 1}"):
                x = block(x, train=train)
            stages[f"f{i + 2}"] = x
        return stages

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Where the responses of each stage lie, under padding modes that keep the size."""
        stride, reach = (1, 1) if self.cifar else (2, 3)
        reaches = {"f1": (stride, reach)}
        if not self.cifar:
            stride, reach = 2 * stride, reach + stride
        for i, count in enumerate(self.blocks):
            for j in range(count):
                reach += stride
                stride *= _stride(i, j)
                # The second 3x3 convolution of a basic block, behind the stride.
                reach += 0 if self.bottleneck else stride
            reaches[f"f{i + 2}"] = (stride, reach)
        return {name: ReceptiveField(*pair, 1 + 2 * pair[1]) for name, pair in reaches.items()}

    def _block(self, layer: int, index: int, width: int) -> nn.Module:
        stride = _stride(layer, index)
        grows = index == 0 and (layer > 0 or self.bottleneck)
        shortcut = ("slice" if self.cifar else "conv") if grows else "identity"
        kind = Bottleneck if self.bottleneck else BasicBlock
        return kind(width, stride, shortcut, self.padding, self.dtype, self.axis_name)

    def _stem_pool(self, x: Array) -> Array:
        chosen = self.padding if self.pool_padding is None else self.pool_padding
        mode = mode_at(chosen, "maxpool", (*MODES, "lowest"))
        return max_pool(x, window=3, stride=2, padding=0 if is_valid(mode) else 1, mode=mode)

    def _head(self, stages: Stages, *, train: bool) -> Array:
        last = stages[f"f{len(self.blocks) + 1}"]
        return (self.linear if self.cifar else self.fc)(jnp.mean(last, axis=(1, 2)))


def _stride(layer: int, index: int) -> int:
    return 2 if layer > 0 and index == 0 else 1


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    width: int
    stride: int
    shortcut: str
    padding: PaddingLike
    dtype: DTypeLike
    axis_name: str | None

    def setup(self):
        """Names the layers as PyTorch does."""
        self.modes = [_mode(self, "conv1"), _mode(self, "conv2")]
        self.conv1 = Conv(self.width, 3, self.stride, mode=self.modes[0], dtype=self.dtype)
        self.bn1 = BatchNorm()
        self.conv2 = Conv(self.width, 3, mode=self.modes[1], dtype=self.dtype)
        self.bn2 = BatchNorm()
        if self.shortcut == "conv":
            self.downsample = _projection(self.width, self.stride, self.dtype)

    def __call__(self, x: Float[Arrays, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 d"]:
        """Adds the shortcut to the two convolutions, then ReLU."""
        how = {"train": train, "axis_name": self.axis_name}
        y = nn.relu(self.bn1(self.conv1(x), **how))
        y = self.bn2(self.conv2(y), **how)
        lost = is_valid(self.modes[0]) + self.stride * is_valid(self.modes[1])
        return nn.relu(y + _shortcut(self, jnp.asarray(x), lost, y, how))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the 3x3 one strides, as in torchvision."""

    width: int
    stride: int
    shortcut: str
    padding: PaddingLike
    dtype: DTypeLike
    axis_name: str | None

    def setup(self):
        """Names the layers as PyTorch does."""
        self.mode = _mode(self, "conv2")
        self.conv1 = Conv(self.width, 1, dtype=self.dtype)
        self.bn1 = BatchNorm()
        self.conv2 = Conv(self.width, 3, self.stride, mode=self.mode, dtype=self.dtype)
        self.bn2 = BatchNorm()
        self.conv3 = Conv(4 * self.width, 1, dtype=self.dtype)
        self.bn3 = BatchNorm()
        if self.shortcut == "conv":
            self.downsample = _projection(4 * self.width, self.stride, self.dtype)

    def __call__(self, x: Float[Arrays, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 d"]:
        """Adds the shortcut to the three convolutions, then ReLU."""
        how = {"train": train, "axis_name": self.axis_name}
        y = nn.relu(self.bn1(self.conv1(x), **how))
        y = nn.relu(self.bn2(self.conv2(y), **how))
        y = self.bn3(self.conv3(y), **how)
        return nn.relu(y + _shortcut(self, jnp.asarray(x), int(is_valid(self.mode)), y, how))


def _mode(block: nn.Module, layer: str) -> Mode:
    return mode_at(block.padding, f"{str(block.name).replace('_', '.')}.{layer}")


def _projection(width: int, stride: int, dtype: DTypeLike) -> list[nn.Module]:
    return [Conv(width, 1, stride, dtype=dtype), BatchNorm()]


def _shortcut(block: nn.Module, x: Array, lost: int, y: Array, how: dict) -> Array:
    """The shortcut of `x` at the places of the block's response `y`.

    `lost` pixels of the input's border never come to stand under the centre of an unpadded
    block. They are cropped before the stride, so that each response meets the pixel that it is
    centred on.
    """
    if lost:
        height, width = ((size - 1) * block.stride + 1 for size in y.shape[1:3])
        x = x[:, lost : lost + height, lost : lost + width]
    if block.shortcut == "conv":
        conv, norm = block.downsample
        return norm(conv(x), **how)
    if block.shortcut == "slice":
        # Option A of He et al. 2016: every other pixel, new channels filled with zeros.
        extra = y.shape[-1] - x.shape[-1]
        channels = (extra // 2, extra - extra // 2)
        x = x[:, :: block.stride, :: block.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), channels))
    return x
