"""The image itself as a stage: what a readout finds without any encoder."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from posjax.encoders.blocks import ReceptiveField, Stages
from posjax.encoders.padding import PaddingLike
from posjax.layers import Arrays

PIXELS = "pixels"


class Pixels(nn.Module):
    """One stage, f1: the images as they come. The paper's "PosENet" without a network under it.

    It has no parameters, and nothing in it pads: the padding modes are there because every
    encoder has them.
    """

    padding: PaddingLike = "zeros"
    pool_padding: PaddingLike | None = None
    num_classes: int | None = None
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        """Refuses a classifier head, which would have nothing to classify."""
        if self.num_classes is not None:
            raise ValueError("pixels have no classifier head: leave num_classes out")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """The images as {"f1": [n, h, w, 3]}."""
        return {"f1": jnp.asarray(images, self.dtype)}

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Every pixel is a response that sees itself."""
        return {"f1": ReceptiveField(1, 0, 1)}
