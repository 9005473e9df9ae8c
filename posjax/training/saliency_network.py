"""Saliency: an encoder with a light decoder learns where the salient objects are."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Num, UInt8

from posjax import encoders
from posjax.images.masks import HALF
from posjax.layers import BatchNorm, pad, resize_bilinear
from posjax.training.steps import Measures

BETA_SQUARED = 0.3
"""How much recall counts beside precision (Achanta et al. 2009)."""
LEVELS = 256
SIDE = 4  # pixels of the image to one of the decoder
WIDTH = 32  # the decoder's channels


class SaliencyNetwork(nn.Module):
    """An encoder under a padding mode, and a decoder that has no padding and no kernel above 1x1.

    All that it can know of place comes from the encoder. Each stage has its own 1x1 convolution;
    their responses meet on a lattice of a quarter of the image's sides (bilinear), are summed,
    normalised and rectified, and a last 1x1 convolution gives a score, brought to the image's size.

    Without padding the stages have lost as many responses on one side as on the other: they are
    continued by their edges, so that they lie above the image to within half a response.
    """

    name_of_encoder: str
    padding: str = "zeros"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    def setup(self):
        """The encoder's parameters are those of `create(name)`, under `encoder`."""
        self.encoder = encoders.create(self.name_of_encoder, self.padding, dtype=self.dtype).clone(
            axis_name=self.axis_name
        )
        count = len(self.encoder.lattice())
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
        lattice = self.encoder.lattice()
        responses = []
        for name, lateral in zip(sorted(stages), self.laterals, strict=True):
            stride = lattice[name].stride
            x = continued(stages[name], (height // stride, width // stride))
            # Both are linear: the one that leaves less to the other comes first.
            if stride < SIDE:
                x = lateral(resize_bilinear(x, size, align_corners=False))
            else:
                x = resize_bilinear(lateral(x), size, align_corners=False)
            responses.append(x)
        x = self.norm(sum(responses), train=train, axis_name=self.axis_name)
        scores = self.score(nn.relu(x))
        return resize_bilinear(scores, (height, width), align_corners=False)[..., 0]


def continued(x: Float[Array, "n h w c"], size: tuple[int, int]) -> Float[Array, "n h2 w2 c"]:
    """A stage that is smaller than `size`, continued by its edges on all sides alike."""
    missing = (max(goal - found, 0) for goal, found in zip(size, x.shape[1:3], strict=True))
    top, left = ((n // 2, n - n // 2) for n in missing)
    return pad(x, (top, left), "replicate")


@dataclasses.dataclass(frozen=True)
class Saliency:
    """Finding salient pixels, by binary cross-entropy; an `Objective`.

    Targets are masks of 0 to 255. A pixel above `HALF` is salient where it is counted.
    """

    module: nn.Module
    smoothing: float = 0.0

    trained: ClassVar = ("loss", "mae")
    tested: ClassVar = ("loss", "f_adaptive", "f_max", "mae", "miou", "empty", "count")

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
        own = {name: array[None] for name, array in measures.items()}
        figures = saliency_figures(own, np.ones((1, len(measures["mae"]))))
        return {
            "loss": float(np.mean(measures["loss"], dtype=np.float64)),
            **{name: float(values[0, 0]) for name, values in figures.items()},
            "empty": int(np.isnan(measures["f_adaptive"]).sum()),
            "count": len(measures["mae"]),
        }


def saliency_measures(
    predicted: Float[ArrayLike, "n h w"], salient: Bool[ArrayLike, "n h w"]
) -> Measures:
    """What the usual figures are made of, for predictions in [0, 1] and true masks.

    `mae`; `f_adaptive`, the F-measure at twice the mean prediction (Achanta et al. 2009);
    `precision` and `recall` [256] of the pixels at or above each level k/255 of the rounded
    prediction, as the benchmark of Borji et al. 2015 does it; `intersection` and `union` [2] of
    what is predicted at one half or above with the truth, for the surroundings and the salient.
    `f_adaptive`, `precision` and `recall` are NaN for an image without a salient pixel.
    """
    n = len(predicted)
    flat, truth = (jnp.asarray(x, jnp.float32).reshape(n, -1) for x in (predicted, salient))
    positives = jnp.sum(truth, axis=1)
    undefined = positives == 0

    def f_of(chosen: Array) -> Array:
        hits = jnp.sum(chosen * truth, axis=1)
        return f_measure(hits / jnp.maximum(jnp.sum(chosen, axis=1), 1), hits / positives)

    threshold = jnp.minimum(2 * jnp.mean(flat, axis=1, keepdims=True), 1)
    above = (flat >= threshold).astype(jnp.float32)
    level = jnp.rint(flat * (LEVELS - 1)).astype(jnp.int32)
    rows = jnp.arange(n)[:, None]

    def at_or_above(weight: Array | float) -> Array:
        counts = jnp.zeros((n, LEVELS)).at[rows, level].add(weight)
        return jnp.cumsum(counts[:, ::-1], axis=1)[:, ::-1]

    hits, chosen = at_or_above(truth), at_or_above(1.0)
    half = (flat >= 0.5).astype(jnp.float32)
    both = jnp.stack([jnp.sum((1 - half) * (1 - truth), axis=1), jnp.sum(half * truth, axis=1)], 1)
    either = flat.shape[1] - both[:, ::-1]
    nowhere = undefined[:, None]
    return {
        "mae": jnp.mean(jnp.abs(flat - truth), axis=1),
        "f_adaptive": jnp.where(undefined, jnp.nan, f_of(above)),
        "precision": jnp.where(nowhere, jnp.nan, hits / jnp.maximum(chosen, 1)),
        "recall": jnp.where(nowhere, jnp.nan, hits / positives[:, None]),
        "intersection": both,
        "union": either,
    }


def f_measure(precision: Any, recall: Any) -> Any:
    """(1 + β²)·P·R / (β²·P + R), and 0 where nothing is found."""
    below = BETA_SQUARED * precision + recall
    return (1 + BETA_SQUARED) * precision * recall / (below + (below == 0))


FIGURES = ("f_adaptive", "f_max", "mae", "miou")


def saliency_figures(
    measures: dict[str, np.ndarray], weights: Num[np.ndarray, "r n"]
) -> dict[str, Float[np.ndarray, "r s"]]:
    """The figures of s networks on the same n images, which count `weights` times, r times over.

    By the names of `FIGURES`, of measures [s, n, …]. `f_max` is the best F-measure of the mean
    precision and recall at one level; `miou` that of PASCAL VOC: pixels of all images together,
    averaged over both classes. Images without a salient pixel have no F-measure, and are left out
    of it; NaN where no image has one.
    """
    known = ~np.isnan(measures["f_adaptive"][0])
    of_known = np.asarray(weights, np.float64)[:, known]

    def mean(name: str, used: np.ndarray = weights, chosen: Any = slice(None)) -> np.ndarray:
        sums = np.einsum("rn,sn...->rs...", used, measures[name][:, chosen], optimize=True)
        count = used.sum(axis=1).reshape(-1, *(1,) * (sums.ndim - 1))
        return sums / np.where(count > 0, count, np.nan)

    precision, recall = (mean(name, of_known, known) for name in ("precision", "recall"))
    both, either = mean("intersection"), mean("union")
    with np.errstate(invalid="ignore"):
        overlap = np.where(either > 0, both / either, np.nan)
    return {
        "f_adaptive": mean("f_adaptive", of_known, known),
        "f_max": np.max(f_measure(precision, recall), axis=-1),
        "mae": mean("mae"),
        "miou": np.nanmean(overlap, axis=-1),
    }
