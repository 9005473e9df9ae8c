"""Trained encoders that come with posjax, one for each padding mode."""

from pathlib import Path

CIFAR10 = "cifar10"
FOLDER = Path(__file__).parent / CIFAR10


def shipped_modes(name: str) -> tuple[str, ...]:
    """The padding modes that an encoder of this name was trained under; none for most encoders."""
    return tuple(sorted(p.stem.rpartition("-")[2] for p in FOLDER.glob(f"{name}-*.safetensors")))


def shipped_path(name: str, weights: str, padding: str | None = None) -> Path | None:
    """The file that `cifar10` or `cifar10:MODE` names, or None where `weights` names none of these.

    `cifar10` is the encoder that was trained under `padding` itself, `cifar10:MODE` the one that
    was trained under that mode, whatever `padding` is.

    Raises:
        ValueError: no such encoder was trained under that mode.
    """
    kind, _, mode = weights.partition(":")
    if kind != CIFAR10:
        return None
    mode = mode or padding or ""
    if mode not in shipped_modes(name):
        raise ValueError(
            f"there are no weights {CIFAR10} of {name} trained under padding "
            f"{mode or 'of no name: say which by cifar10:MODE'}; there are those under "
            f"{', '.join(shipped_modes(name)) or 'none'}"
        )
    return FOLDER / f"{name}-{mode}.safetensors"
