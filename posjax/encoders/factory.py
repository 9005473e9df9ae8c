"""Encoders by name."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from posjax.encoders import matched
from posjax.encoders.blocks import Padding, split_padding
from posjax.encoders.modes import layers_that_pad
from posjax.encoders.pixels import PIXELS, Pixels
from posjax.encoders.resnet import CIFAR_DEPTHS, IMAGENET_BLOCKS, ResNet
from posjax.encoders.vgg import VGG
from posjax.layers import check_mode

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
    """The encoders that `create` knows.

    By torchvision's names; resnet20 and so on are CIFAR's, vgg8_bn_quarter has one convolution in
    each block and a quarter of VGG's channels, and pixels is the image itself.
    """
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
            PyTorch: `features.0`, `layer1.0.conv1`) to that layer's mode. In one word, single
            layers are switched to another mode by `zeros+layer1.0.conv1=reflect`, and
            `zeros@cropped` or `valid@enlarged` give stages on the responses that padded and
            unpadded encoders share, see `matched`.
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
    view = ""
    if isinstance(padding, str):
        padding, view = check_padding(name, padding)
    if view and (num_classes is not None or pool_padding is not None):
        raise ValueError(
            f"an encoder under padding {padding}@{view} has no classifier head, and its pools pad "
            "as its convolutions do: leave num_classes and pool_padding out"
        )
    if isinstance(pool_padding, str) and pool_padding != "lowest":
        check_mode(pool_padding)
    encoder = _MAKERS[name](
        padding=padding, pool_padding=pool_padding, num_classes=num_classes, dtype=dtype
    )
    return matched.Matched(encoder, view) if view else encoder


def padded_layers(name: str) -> tuple[str, ...]:
    """The layers of an encoder that pad, by their names in PyTorch, from the image onwards.

    Raises:
        ValueError: an unknown name.
    """
    return layers_that_pad(create(name))


def check_padding(name: str, padding: str) -> tuple[str, str]:
    """The padding of an encoder in words, and its view: `("zeros", "cropped")`, mostly without one.

    Raises:
        ValueError: modes, layers or a view that the encoder does not know.
    """
    modes, at, view = padding.partition("@")
    mode, switches = split_padding(modes)
    for one in (mode, *switches.values()):
        check_mode(one)
    unknown = sorted(set(switches) - set(padded_layers(name))) if switches else []
    if unknown or len(switches) < modes.count("+"):
        raise ValueError(
            f"padding {padding!r} switches {', '.join(unknown) or 'a layer twice'}; layers of "
            f"{name} that pad, each once, are {', '.join(padded_layers(name)) or 'none'}"
        )
    if at and (view not in matched.VIEWS or not padded_layers(name)):
        raise ValueError(
            f"padding {padding!r} names no view of {name}; expected one of "
            f"{', '.join(matched.VIEWS)} of an encoder that pads"
        )
    if at and switches:
        raise ValueError(f"padding {padding!r} has a view and switched layers: choose one")
    return modes, view


def margins(name: str, padding: str) -> tuple[int, int]:
    """Pixels of an image before and behind the part that an encoder is probed on, along both axes.

    None but under a view that needs surroundings, such as `valid@enlarged`.
    """
    _, _, view = padding.partition("@")
    return matched.margins(create(name).lattice(), view) if view else (0, 0)
