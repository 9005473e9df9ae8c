"""Encoders by name."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from posjax.encoders.aligned import AlignedEncoder, aligned_margins
from posjax.encoders.blocks import Backbone
from posjax.encoders.modes import layers_that_pad
from posjax.encoders.pixels import PIXELS, Pixels
from posjax.encoders.resnet import CIFAR_DEPTHS, IMAGENET_BLOCKS, ResNet
from posjax.encoders.vgg import VGG
from posjax.layers import check_mode
from posjax.layers.network_padding import Padding, PaddingLike

_MAKERS = {
    PIXELS: Pixels,
    **{
        f"vgg{depth}{'_bn' if norm else ''}": partial(VGG, depth=depth, batch_norm=norm)
        for depth in (11, 13, 16, 19)
        for norm in (False, True)
    },
    "vgg8_bn_quarter": partial(VGG, depth=8, batch_norm=True, divisor=4),
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
    """The encoders that `create` knows: torchvision's names, and some others.

    resnet20, 32, 44, 56 and 110 are CIFAR's. vgg8_bn_quarter has one convolution in each block and
    a quarter of VGG's channels. pixels is the image itself.
    """
    return tuple(_MAKERS)


def has_head(name: str) -> bool:
    """Whether an encoder can have a classifier head."""
    return type(_MAKERS[name]())._head is not Backbone._head


def create(
    name: str,
    padding: PaddingLike = "zeros",
    pool_padding: PaddingLike | None = None,
    num_classes: int | None = None,
    dtype: DTypeLike = jnp.float32,
) -> nn.Module:
    """An encoder: `apply(variables, images)` gives its stages {"f1": [n, h, w, c], …}.

    Args:
        name: one of `names()`.
        padding: the mode of every convolution, a text as `Padding` reads it, or a function from a
            layer's name, as in PyTorch, to its mode.
        pool_padding: the mode of the one pool that pads, `maxpool` of the ImageNet ResNets, or
            `lowest`, which pads with −inf as PyTorch does; by default the convolutions' mode.
        num_classes: with a number, the encoder also has the classifier head of its paper:
            `apply(variables, images, method="logits")`.
        dtype: of the convolutions; parameters and BatchNorm statistics are float32.

    Raises:
        ValueError: an unknown name, padding mode, layer or number of classes.
    """
    if name not in _MAKERS:
        raise ValueError(f"encoder {name!r} is unknown; expected one of {', '.join(names())}")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, not {num_classes}")
    if num_classes is not None and not has_head(name):
        raise ValueError(f"{name} has no classifier head: leave num_classes out")
    if isinstance(padding, str | Padding):
        padding = check_padding(name, Padding.parse(padding))
    if isinstance(pool_padding, str) and pool_padding != "lowest":
        check_mode(pool_padding)
    alignment = padding.alignment if isinstance(padding, Padding) else ""
    if alignment and (num_classes is not None or pool_padding is not None):
        raise ValueError(
            f"an encoder under padding {padding} has no classifier head, and its pools pad "
            "as its convolutions do: leave num_classes and pool_padding out"
        )
    encoder = _MAKERS[name](
        padding=Padding(padding.mode) if alignment else padding,
        pool_padding=pool_padding,
        num_classes=num_classes,
        dtype=dtype,
    )
    return AlignedEncoder(encoder, alignment) if alignment else encoder


def padded_layers(name: str) -> tuple[str, ...]:
    """The layers of an encoder that pad, by their names in PyTorch, from the image onwards.

    Raises:
        ValueError: an unknown name.
    """
    return layers_that_pad(create(name))


def check_padding(name: str, padding: Padding) -> Padding:
    """Returns `padding`, which an encoder must be able to have.

    Raises:
        ValueError: the encoder lacks one of its layers, or pads nowhere and so has no alignment.
    """
    if not padding.layers and not padding.alignment:
        return padding
    layers = padded_layers(name)
    unknown = sorted(set(padding.layers) - set(layers))
    if unknown or not layers:
        what = f"names {', '.join(unknown)}" if unknown else "has an alignment"
        raise ValueError(
            f"padding {padding} {what}; layers of {name} that pad are {', '.join(layers) or 'none'}"
        )
    return padding


def margins(name: str, padding: Padding) -> tuple[int, int]:
    """Pixels of an image before and behind the part that is probed: (0, 0) but for `enlarged`."""
    if not padding.alignment:
        return 0, 0
    return aligned_margins(create(name).receptive_fields(), padding.alignment)
