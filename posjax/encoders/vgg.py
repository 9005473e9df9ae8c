"""VGG (Simonyan & Zisserman 2015), with torchvision's layout and names."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posjax.encoders.blocks import Backbone, Conv, ReceptiveField, Stages, mode_at
from posjax.layers import Arrays, BatchNorm, max_pool

BLOCKS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)
POOLED = 7


class VGG(Backbone, kw_only=True):
    """VGG's convolutions as stages f1…f5: after the last ReLU of each block, before its pool.

    Layers are `features.0`, `features.2`, … as in torchvision, which counts every convolution,
    BatchNorm, ReLU and pool. Pools take 2x2 pixels and never pad. `divisor` divides the
    channels of each stage, for a network small enough to be trained on a laptop.
    """

    depth: int = 16
    batch_norm: bool = False
    divisor: int = 1

    def setup(self):
        """Lays the layers out in torchvision's order, so that list positions are its names."""
        features = []
        for width, count in zip(WIDTHS, BLOCKS[self.depth], strict=True):
            for _ in range(count):
                mode = mode_at(self.padding, f"features.{len(features)}")
                features.append(
                    Conv(width // self.divisor, 3, mode=mode, use_bias=True, dtype=self.dtype)
                )
                if self.batch_norm:
                    features.append(BatchNorm())
                features.append(nn.relu)
            features.append(_pool)
        self.features = features
        if self.num_classes is not None:
            normal = nn.initializers.normal(0.01)
            dense = partial(nn.Dense, kernel_init=normal, dtype=jnp.float32)
            scores = dense(self.num_classes)
            self.classifier = [dense(4096), None, None, dense(4096), None, None, scores]
            self.dropout = nn.Dropout(0.5)

    def stages(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """`__call__`, with the bare error of the layer that finds its map too small."""
        x, stages = images, {}
        for layer in self.features:
            if layer is _pool:
                stages[f"f{len(stages) + 1}"] = x
            if len(stages) == len(WIDTHS):
                break
            norm = isinstance(layer, BatchNorm)
            x = layer(x, train=train, axis_name=self.axis_name) if norm else layer(x)
        return stages

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Where the responses of each stage lie, under padding modes that keep the size."""
        field, fields = ReceptiveField(), {}
        for i, count in enumerate(BLOCKS[self.depth], 1):
            for _ in range(count):
                field = field.after(3, padding=1)
            fields[f"f{i}"] = field
            field = field.after(2, stride=2)
        return fields

    def _head(self, stages: Stages, *, train: bool) -> Array:
        x = adaptive_average(_pool(stages["f5"]), POOLED)
        # PyTorch flattens channels first.
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        for dense in (self.classifier[0], self.classifier[3]):
            x = self.dropout(nn.relu(dense(x)), deterministic=not train)
        return self.classifier[6](x)


def _pool(x: Float[Arrays, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    return max_pool(x, window=2, stride=2)


def adaptive_average(x: Float[Arrays, "n h w c"], size: int) -> Float[Array, "n s s c"]:
    """`torch.nn.AdaptiveAvgPool2d`: bin i of s covers floor(i·h/s) to ceil((i+1)·h/s)."""

    def average(length: int) -> Array:
        start = np.arange(size) * length // size
        end = -(-(np.arange(size) + 1) * length // size)
        pixel = np.arange(length)
        inside = (pixel >= start[:, None]) & (pixel < end[:, None])
        return jnp.asarray(inside / inside.sum(axis=1, keepdims=True), x.dtype)

    return jnp.einsum("si,tj,nijc->nstc", average(x.shape[1]), average(x.shape[2]), x)
