"""Trained encoders that ship with posjax, one for each padding mode."""

from pathlib import Path

CIFAR10 = "cifar10"
FOLDER = Path(__file__).parent / "weights" / CIFAR10


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
    path = FOLDER / f"{name}-{mode}.safetensors"
    if not mode or not path.exists():
        found = ", ".join(sorted(p.stem.rpartition("-")[2] for p in FOLDER.glob(f"{name}-*")))
        raise ValueError(
            f"there are no weights {CIFAR10} of {name} trained under padding "
            f"{mode or 'of no name: say which by cifar10:MODE'}; there are those under "
            f"{found or 'none'}"
        )
    return path
