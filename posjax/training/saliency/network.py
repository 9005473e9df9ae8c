"""Saliency: an encoder with a light decoder learns where the salient objects are."""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from posjax import encoders
from posjax.encoders import Padding
from posjax.images import HALF
from posjax.layers import BatchNorm, pad, resize_bilinear
from posjax.training.objective import Measures, Objective
from posjax.training.saliency.measures import saliency_figures, saliency_measures

SIDE = 4  # pixels of the image to one of the decoder
WIDTH = 32  # the decoder's channels


class SaliencyNetwork(nn.Module):
    """An encoder under a padding mode, and a decoder that has no padding and no kernel above 1x1.

    Its position information comes from the encoder alone. Each stage has its own 1x1 convolution;
    their responses are resized to a quarter of the image's sides (bilinear), summed, normalised
    and rectified, and a last 1x1 convolution gives a score, brought to the image's size.

    Without padding the stages have lost as many responses on one side as on the other: they are
    continued by their edges, so that they lie above the image to within half a response.
    """

    name_of_encoder: str
    padding: Padding = Padding("zeros")
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    def setup(self):
        """The encoder's parameters are those of `create(name)`, under `encoder`."""
        self.encoder = encoders.create(self.name_of_encoder, self.padding, dtype=self.dtype).clone(
            axis_name=self.axis_name
        )
        count = len(self.encoder.receptive_fields())
        self.laterals = [nn.Dense(WIDTH, use_bias=False) for _ in range(count)]
        self.norm = BatchNorm()
        self.score = nn.Dense(1)

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h w"]:
        """How salient each pixel is, in (0, 1)."""
        return nn.sigmoid(self.logits(images))

    def logits(
        self, images: Float[Array, "n h w 3"], *, train: bool = False
    ) -> Float[Array, "n h w"]:
        """The scores of all pixels, before the sigmoid."""
        height, width = images.shape[1:3]
        size = (max(height // SIDE, 1), max(width // SIDE, 1))
        stages = self.encoder(images, train=train)
        fields = self.encoder.receptive_fields()
        responses = []
        for name, lateral in zip(sorted(stages), self.laterals, strict=True):
            stride = fields[name].stride
            x = continued(stages[name], (height // stride, width // stride))
            # Both are linear: the one that leaves less to the other comes first.
            if stride < SIDE:
                x = lateral(resize_bilinear(x, size, align_corners=False))
            else:
                x = resize_bilinear(lateral(x), size, align_corners=False)
            responses.append(x)
        x = self.norm(cast(Array, sum(responses)), train=train, axis_name=self.axis_name)
        scores = self.score(nn.relu(x))
        return resize_bilinear(scores, (height, width), align_corners=False)[..., 0]


def continued(x: Float[Array, "n h w c"], size: tuple[int, int]) -> Float[Array, "n h2 w2 c"]:
    """A stage that is smaller than `size`, continued by its edges on all sides alike."""
    missing = (max(goal - side, 0) for goal, side in zip(size, x.shape[1:3], strict=True))
    top, left = ((n // 2, n - n // 2) for n in missing)
    return pad(x, (top, left), "replicate")


class SaliencyObjective(Objective):
    """Finding salient pixels, by binary cross-entropy.

    Targets are masks of 0 to 255. A pixel above `HALF` is salient where it is counted.
    """

    trained = ("loss", "mae")
    tested = ("loss", "f_adaptive", "f_max", "mae", "miou", "empty", "count")

    def losses(
        self,
        logits: Float[Array, "n h w"],
        targets: UInt8[Array, "n h w"],
        smoothing: float = 0.0,
    ) -> Float[Array, " n"]:
        """The binary cross-entropy of each image, averaged over its pixels."""
        wanted = targets.astype(jnp.float32) / 255
        wanted = wanted * (1 - smoothing) + smoothing / 2
        wide = logits.astype(jnp.float32)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(wide, wanted), axis=(1, 2))

    def measures(self, logits: Float[Array, "n h w"], targets: UInt8[Array, "n h w"]) -> Measures:
        """Those of `saliency_measures`."""
        return saliency_measures(nn.sigmoid(logits.astype(jnp.float32)), targets > HALF)

    def summary(self, measures: dict[str, np.ndarray]) -> dict[str, float]:
        """Mean loss, the figures of `saliency_figures`, and counts."""
        single = {name: array[None] for name, array in measures.items()}
        figures = saliency_figures(single, np.ones((1, len(measures["mae"]))))
        return {
            "loss": float(np.mean(measures["loss"], dtype=np.float64)),
            **{name: float(values[0, 0]) for name, values in figures.items()},
            "empty": int(np.isnan(measures["f_adaptive"]).sum()),
            "count": len(measures["mae"]),
        }
