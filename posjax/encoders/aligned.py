"""Padded and unpadded encoders on the same places: as many responses, centred on the same pixels.

Without padding maps shrink (VGG-16 at 224 pixels: 220, 106, 47, 17, 2 a side). Smaller maps alone
may carry less position. There are two fair comparisons, under every padding mode:

`cropped`: the padded maps are cropped to the responses that the unpadded encoder has too. Their
receptive fields lie within the image, so that no padding reaches them: all modes give the same.
`enlarged`: the unpadded encoder sees the image within its true surroundings, so that its maps are
as large as the padded ones. Padded encoders see the image alone, which lies in the middle.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from posjax.encoders.blocks import ReceptiveField, Stages, abstract_init, small_images_refused
from posjax.layers import Arrays, InputTooSmall
from posjax.layers.network_padding import VALID, Padding

Fields = Mapping[str, ReceptiveField]


def aligned_margins(fields: Fields, alignment: str) -> tuple[int, int]:
    """Pixels before and behind the probed part of an image: (0, 0) but for `enlarged`.

    There the margin behind is as wide as padding reaches. The one before is wider, so that unpadded
    responses are centred on the same pixels as padded ones.
    """
    if alignment != "enlarged":
        return 0, 0
    furthest = max(field.reach for field in fields.values())
    return _shift(fields, furthest), furthest


class AlignedEncoder(nn.Module):
    """An encoder whose stages are cropped to the responses that it shares with its `valid` twin.

    `apply(variables, images)` gives stages only. The variables are those of the encoder.
    """

    encoder: nn.Module
    alignment: str

    def setup(self):
        """The encoder's parameters keep their names."""
        nn.share_scope(self, self.encoder)

    @property
    def padding(self) -> str:
        """The padding, with the alignment."""
        return f"{self.encoder.padding}@{self.alignment}"

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Those of the encoder."""
        return self.encoder.receptive_fields()

    def __call__(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """As `Backbone`, on the shared responses."""
        with small_images_refused(self, images):
            return self.stages(images, train=train)

    def stages(self, images: Float[Arrays, "n h w 3"], *, train: bool = False) -> Stages:
        """`__call__`, with the bare error of the layer that finds its map too small."""
        images = jnp.asarray(images)
        fields = self.encoder.receptive_fields()
        before, behind = aligned_margins(fields, self.alignment)
        height, width = images.shape[1:3]
        if min(height, width) <= before + behind:
            raise InputTooSmall(
                f"images of {height}x{width} have no middle within surroundings of {before} and "
                f"{behind} pixels"
            )
        enlarged = self.alignment == "enlarged"
        # Pixels cropped from the top and left for the padded and for the unpadded encoder.
        skipped = before if enlarged else 0
        unpadded = 0 if enlarged else _shift(fields, 0, sign=-1)
        middle = images[:, skipped : height - behind, skipped : width - behind]
        whole = images[:, unpadded:, unpadded:]
        shared = _sizes(self.encoder, *(("zeros", middle) if enlarged else (VALID, whole)))
        valid = isinstance(self.encoder.padding, Padding) and self.encoder.padding.mode == VALID
        stages = self.encoder.stages(whole if valid else middle, train=train)
        aligned = {}
        for name, field in fields.items():
            # The first unpadded response has the place of padded response number `offset`.
            offset = (unpadded + field.reach - skipped) // field.stride
            start = max(-offset if valid else offset, 0)
            height, width = shared[name]
            aligned[name] = stages[name][:, start : start + height, start : start + width]
        return aligned


def _shift(fields: Fields, least: int, sign: int = 1) -> int:
    """The least number of pixels, no less than `least`, to put unpadded before padded responses.

    With sign 1 the pixels are added before the image, with −1 they are taken from it.
    """
    total = max(field.stride for field in fields.values())
    for pixels in range(least, least + total):
        if all((sign * pixels - f.reach) % f.stride == 0 for f in fields.values()):
            return pixels
    raise ValueError("padded and unpadded responses of this encoder never lie on the same pixels")


def _sizes(encoder: nn.Module, mode: str, images: Arrays) -> dict[str, tuple[int, int]]:
    """Height and width of the stages under another padding mode, without computing any."""
    module = encoder.clone(padding=Padding(mode))
    stages, _ = abstract_init(module, *images.shape[1:3], method="stages")
    return {name: x.shape[1:3] for name, x in stages.items()}
