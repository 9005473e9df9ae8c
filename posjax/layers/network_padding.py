"""How the layers of a network pad, parsed once from the text of a flag."""

import dataclasses
from collections.abc import Callable, Iterable

from posjax.layers.padding import Mode, check_mode

ALIGNMENTS = ("cropped", "enlarged")
EACH = "each"
VALID = "valid"
LOWEST = "lowest"
"""The mode of a max-pool whose windows see −inf beyond the border, as in PyTorch and flax."""


@dataclasses.dataclass(frozen=True)
class Padding:
    """One mode for all layers, other modes for single layers, and an alignment.

    It is also a function from the name of a layer, as in PyTorch, to the layer's mode. `str` gives
    back the text: `zeros`, `zeros+layer1.0.conv1=reflect` or `valid@cropped`. The alignment says
    which responses are compared with those of an encoder without padding, see `aligned`.
    """

    mode: str
    overrides: tuple[tuple[str, str], ...] = ()
    alignment: str = ""

    def __post_init__(self):
        """Refuses unknown modes and alignments, and layers that stand twice."""
        layers = [layer for layer, _ in self.overrides]
        for mode in (self.mode, *(mode for _, mode in self.overrides if mode != LOWEST)):
            check_mode(mode)
        if len(set(layers)) < len(layers):
            raise ValueError(f"padding {self} has a layer twice")
        if self.alignment and self.alignment not in ALIGNMENTS:
            raise ValueError(
                f"padding {self}: alignment {self.alignment!r} is unknown; expected one of "
                f"{', '.join(ALIGNMENTS)}"
            )
        if self.alignment and self.overrides:
            raise ValueError(f"padding {self} has an alignment and single layers: choose one")

    @classmethod
    def parse(cls, text: "str | Padding") -> "Padding":
        """Reads `MODE[+LAYER=MODE…][@ALIGNMENT]`. A `Padding` stays as it is.

        Raises:
            ValueError: a mode or an alignment is unknown, a layer stands twice.
        """
        if isinstance(text, Padding):
            return text
        modes, at, alignment = text.partition("@")
        mode, *overrides = modes.split("+")
        parts = [override.partition("=") for override in overrides]
        if not all(equals for _, equals, _ in parts) or (at and not alignment):
            raise ValueError(
                f"padding {text!r} cannot be read; expected MODE[+LAYER=MODE…][@ALIGNMENT], such "
                "as zeros+features.0=reflect"
            )
        return cls(mode, tuple((layer, other) for layer, _, other in parts), alignment)

    def __str__(self) -> str:
        overrides = "".join(f"+{layer}={mode}" for layer, mode in self.overrides)
        return f"{self.mode}{overrides}{'@' if self.alignment else ''}{self.alignment}"

    def __call__(self, layer: str) -> str:
        """The mode of a layer."""
        return dict(self.overrides).get(layer, self.mode)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers with another mode."""
        return tuple(layer for layer, _ in self.overrides)

    @property
    def modes(self) -> frozenset[str]:
        """Every mode that occurs."""
        return frozenset((self.mode, *(mode for _, mode in self.overrides)))

    def expand(self, layers: Iterable[str]) -> list["Padding"]:
        """One padding for each of `layers` where `each` stands for a layer, else this one."""
        if EACH not in self.layers:
            return [self]
        return [
            Padding(self.mode, tuple((layer if k == EACH else k, v) for k, v in self.overrides))
            for layer in layers
        ]

    @property
    def as_compiled(self) -> "Padding":
        """The padding that an encoder is compiled with if its modes are integers.

        It has `zeros` for every mode that keeps the size, and leaves `valid` and the alignment:
        `reflect` and `circular` become `zeros`, `valid+conv1=reflect` becomes
        `valid+conv1=zeros`. Paddings for which it is the same share one compiled encoder.
        """
        mode, other = (VALID, "zeros") if self.mode == VALID else ("zeros", VALID)
        unlike = [k for k, v in self.overrides if (v == VALID) != (self.mode == VALID)]
        return Padding(mode, tuple((layer, other) for layer in sorted(unlike)), self.alignment)


PaddingLike = str | Padding | Callable[[str], Mode]
"""A text, a parsed `Padding`, or a function from a layer's name to its mode or integer."""
