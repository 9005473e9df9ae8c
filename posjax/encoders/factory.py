"""Encoders by name."""

import contextlib
from functools import cache, partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from posjax.encoders.aligned import AlignedEncoder, aligned_margins
from posjax.encoders.blocks import Backbone, abstract_init
from posjax.encoders.modes import layers_that_pad
from posjax.encoders.pixels import PIXELS, Pixels
from posjax.encoders.resnet import CIFAR_DEPTHS, IMAGENET_BLOCKS, ResNet
from posjax.encoders.vgg import VGG
from posjax.encoders.wrapped import Wrapped, check_own_padding
from posjax.layers import InputTooSmall, check_mode
from posjax.layers.network_padding import LOWEST, VALID, Padding, PaddingLike

Network = nn.Module | Wrapped
"""What computes an encoder's stages: `apply(variables, images)`."""

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


def network_of(
    name: str | Wrapped,
    padding: PaddingLike = "zeros",
    pool_padding: PaddingLike | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Network:
    """As `create`, by name, or a network of the user's own, which computes in its own dtype.

    Raises:
        ValueError: as `create`.
    """
    if not isinstance(name, Wrapped):
        return create(name, padding, pool_padding, dtype=dtype)
    if isinstance(padding, str | Padding):
        padding = check_own_padding(name, Padding.parse(padding))
    if isinstance(pool_padding, str) and pool_padding != LOWEST:
        check_mode(pool_padding)
    return name.clone(padding=padding, pool_padding=pool_padding)


def padded_layers(name: str | Wrapped) -> tuple[str, ...]:
    """The layers of an encoder that pad, by their names in PyTorch, from the image onwards.

    Raises:
        ValueError: an unknown name.
    """
    return layers_that_pad(network_of(name))


def pools_that_pad(name: str | Wrapped) -> tuple[str, ...]:
    """The max-pools among `padded_layers`, whose mode `pool_padding` sets.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(name, Wrapped):
        return tuple(layer for layer in name.layers if layer.kind == "max_pool")
    return tuple(layer for layer in padded_layers(name) if layer == "maxpool")


def check_padding(name: str | Wrapped, padding: Padding) -> Padding:
    """Returns `padding`, which an encoder must be able to have, by the full names of its layers.

    Raises:
        ValueError: the encoder lacks one of its layers, or pads nowhere and so has no alignment.
    """
    if isinstance(name, Wrapped):
        return check_own_padding(name, padding)
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


def margins(name: str | Wrapped, padding: Padding) -> tuple[int, int]:
    """Pixels of an image before and behind the part that is probed: (0, 0) but for `enlarged`."""
    if not padding.alignment:
        return 0, 0
    return aligned_margins(network_of(name).receptive_fields(), padding.alignment)


def stage_shapes(
    name: str | Wrapped, padding: Padding | None, size: int, pool_padding: str | None = None
) -> dict[str, tuple[int, int, int]]:
    """Height, width and channels of every stage, without computing any.

    `size` is the side of the part of the images that is probed, without surroundings.

    Raises:
        InputTooSmall: the images are too small for the encoder under this padding.
    """
    padding = padding or Padding("zeros")
    side = size + sum(margins(name, padding))
    if padding.overrides and VALID not in padding.modes:
        # A mixture of modes fits where each of them fits at every layer. These few are traced once
        # for all mixtures. An ablation of single layers has dozens of mixtures.
        with contextlib.suppress(InputTooSmall):
            plain = [network_of(name, Padding(mode), pool_padding) for mode in padding.modes]
            shapes = [shapes_of(network, side) for network in plain]
            return shapes[0]
    return shapes_of(network_of(name, padding, pool_padding), side)


# Cached, because the seeds and image sets of a run share the shapes.
@cache
def shapes_of(network: Network, side: int) -> dict[str, tuple[int, int, int]]:
    """As `stage_shapes`, for a network and the side of all that it sees."""
    if isinstance(network, Wrapped):
        return network.stage_shapes(side)
    stages, _ = abstract_init(network, side, side)
    return {name: tuple(x.shape[1:]) for name, x in stages.items()}
