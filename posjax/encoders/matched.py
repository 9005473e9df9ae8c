"""Padded and unpadded encoders on the same places: as many responses, centred on the same pixels.

Without padding maps shrink (VGG-16 at 224 pixels: 220, 106, 47, 17, 2 a side), and an encoder that
tells less may tell less for that alone. Two fair comparisons, under every padding mode:

`cropped`: of the padded maps only the responses are kept that the unpadded encoder has too. Their
receptive fields lie within the image, so that no padding reaches them: all modes give the same.
`enlarged`: the unpadded encoder sees the image within its true surroundings, so that its maps are
as large as the padded ones; padded encoders see the image alone, which lies in the middle.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posjax.encoders.blocks import Lattice, Stages, small_images_refused
from posjax.layers import InputTooSmall

VIEWS = ("cropped", "enlarged")


def margins(lattice: Mapping[str, Lattice], view: str) -> tuple[int, int]:
    """Pixels before and behind the probed part of an image, along both axes, under a view.

    Under `enlarged` as many as padding reaches, and before the image so many more that unpadded
    responses are centred on the same pixels as padded ones.
    """
    if view != "enlarged":
        return 0, 0
    furthest = max(stage.reach for stage in lattice.values())
    return _aligned(lattice, furthest), furthest


class Matched(nn.Module):
    """An encoder whose stages are those of the responses that it shares with its `valid` twin.

    `apply(variables, images)` gives stages only; variables are those of the encoder.
    """

    encoder: nn.Module
    view: str

    def setup(self):
        """The encoder's parameters keep their names."""
        nn.share_scope(self, self.encoder)

    @property
    def padding(self) -> str:
        """The encoder's padding mode."""
        return self.encoder.padding

    def lattice(self) -> dict[str, Lattice]:
        """That of the encoder."""
        return self.encoder.lattice()

    def __call__(self, images: Float[ArrayLike, "n h w 3"], *, train: bool = False) -> Stages:
        """The stages {"f1": [n, h1, w1, c1], …} on the shared responses.

        Raises:
            InputTooSmall: the images are too small; says which size would do.
        """
        with small_images_refused(self, images):
            return self.stages(images, train=train)

    def stages(self, images: Float[ArrayLike, "n h w 3"], *, train: bool = False) -> Stages:
        """The stages, with the bare error of what finds its map too small."""
        images = jnp.asarray(images)
        lattice = self.encoder.lattice()
        before, behind = margins(lattice, self.view)
        height, width = images.shape[1:3]
        if min(height, width) <= before + behind:
            raise InputTooSmall(
                f"images of {height}x{width} have no middle within surroundings of {before} and "
                f"{behind} pixels"
            )
        # Of how many pixels each encoder sees nothing at the top and at the left.
        skipped = before if self.view == "enlarged" else 0
        unpadded = 0 if self.view == "enlarged" else _aligned(lattice, 0, sign=-1)
        middle = images[:, skipped : height - behind, skipped : width - behind]
        whole = images[:, unpadded:, unpadded:]
        if self.view == "enlarged":
            shared = _sizes(self.encoder, "zeros", middle)
        else:
            shared = _sizes(self.encoder, "valid", whole)
        valid = self.encoder.padding == "valid"
        stages = self.encoder.stages(whole if valid else middle, train=train)
        found = {}
        for name, x in stages.items():
            # The first unpadded response lies under padded response number `offset`.
            offset = (unpadded + lattice[name].reach - skipped) // lattice[name].stride
            start = max(-offset if valid else offset, 0)
            stop = tuple(start + size for size in shared[name])
            if x.shape[1] < stop[0] or x.shape[2] < stop[1]:
                raise InputTooSmall(f"stage {name} of {x.shape[1:3]} is smaller than {stop}")
            found[name] = x[:, start : stop[0], start : stop[1]]
        return found


def _aligned(lattice: Mapping[str, Lattice], least: int, sign: int = 1) -> int:
    """The least number of pixels, no less than `least`, to put unpadded before padded responses.

    With sign 1 pixels that are added before the image, with −1 pixels that are taken from it.
    """
    total = max(stage.stride for stage in lattice.values())
    for pixels in range(least, least + total):
        if all((sign * pixels - s.reach) % s.stride == 0 for s in lattice.values()):
            return pixels
    raise ValueError("padded and unpadded responses of this encoder never lie on the same pixels")


def _sizes(encoder: nn.Module, padding: str, images: ArrayLike) -> dict[str, tuple[int, int]]:
    """Height and width of the stages under another padding mode, without computing any."""
    module = encoder.clone(padding=padding, parent=None)
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)

    def apply(x: Array) -> Stages:
        return module.init_with_output(jax.random.key(0), x, method="stages")[0]

    stages = jax.eval_shape(apply, one)
    return {name: x.shape[1:3] for name, x in stages.items()}
