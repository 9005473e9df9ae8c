"""Encoders by name."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from posjax.encoders.blocks import Padding
from posjax.encoders.resnet import CIFAR_DEPTHS, IMAGENET_BLOCKS, ResNet
from posjax.encoders.vgg import BLOCKS, VGG
from posjax.layers import check_mode

_MAKERS = {
    **{
        f"vgg{depth}{'_bn' if norm else ''}": partial(VGG, depth=depth, batch_norm=norm)
        for depth in BLOCKS
        for norm in (False, True)
    },
    **{
        f"resnet{depth}": partial(ResNet, blocks=blocks, bottleneck=depth >= 50)
        for depth, blocks in IMAGENET_BLOCKS.items()
    },
    **{
        f"resnet{depth}": partial(ResNet, blocks=((depth - 2) // 6,) * 3, cifar=True)
        for depth in CIFAR_DEPTHS
    },
}


def names() -> tuple[str, ...]:
    """The encoders that `create` knows, by torchvision's names; resnet20 and so on are CIFAR's."""
    return tuple(_MAKERS)


def create(
    name: str,
    padding: Padding = "zeros",
    pool_padding: Padding | None = None,
    num_classes: int | None = None,
    dtype: DTypeLike = jnp.float32,
) -> nn.Module:
    """An encoder: `apply(variables, images)` gives its stages {"f1": [n, h, w, c], …}.

    Args:
        name: one of `names()`.
        padding: the padding mode of every convolution, or a function from a layer's name (as in
            PyTorch: `features.0`, `layer1.0.conv1`) to that layer's mode.
        pool_padding: the same for the pool of the ImageNet ResNets' stem (`maxpool`), or
            `lowest`, which pads with −inf as PyTorch does; by default the convolutions' mode.
        num_classes: with a number, the encoder also has the classifier head of its paper:
            `apply(variables, images, method="logits")`.
        dtype: of the convolutions; parameters and BatchNorm statistics are float32.

    Raises:
        ValueError: an unknown name, padding mode or number of classes.
    """
    if name not in _MAKERS:
        raise ValueError(f"encoder {name!r} is unknown; expected one of {', '.join(names())}")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, found {num_classes}")
    if isinstance(padding, str):
        check_mode(padding)
    if isinstance(pool_padding, str) and pool_padding != "lowest":
        check_mode(pool_padding)
    return _MAKERS[name](
        padding=padding, pool_padding=pool_padding, num_classes=num_classes, dtype=dtype
    )
