"""The image itself as a stage: what a readout finds without any encoder."""

import jax.numpy as jnp
from jaxtyping import Float

from posjax.encoders.blocks import Backbone, ReceptiveField, Stages
from posjax.layers import Arrays

PIXELS = "pixels"


class Pixels(Backbone):
    """One stage, f1: the images as they come. The paper's "PosENet" without a network under it.

    It has no parameters and no head, and nothing in it pads.
    """

    def stages(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """The images as {"f1": [n, h, w, 3]}."""
        return {"f1": jnp.asarray(images, self.dtype)}

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Every pixel is a response that sees itself."""
        return {"f1": ReceptiveField()}
