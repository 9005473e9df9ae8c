"""How probes and numbers are written, alike in tables, in figures and on the terminal."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from posjax.results import Interval, ProbeSpec

T = TypeVar("T")
K = TypeVar("K")


def varying(probes: Iterable[ProbeSpec]) -> tuple[str, ...]:
    """The fields that tell the probes apart: `padding`, and the others that differ.

    Without those that follow from the encoder and the control, as the stages of several encoders.
    """
    probes = list(probes)
    given = ("encoder", "control")

    def count_different(*fields: str) -> int:
        return len({tuple(getattr(probe, field) for field in fields) for probe in probes})

    def differs(name: str) -> bool:
        if name in given:
            return count_different(name) > 1
        return count_different(name, *given) > count_different(*given)

    names = [field.name for field in dataclasses.fields(ProbeSpec) if field.name != "padding"]
    return ("padding", *filter(differs, names))


def label(probe: ProbeSpec, fields: Sequence[str]) -> str:
    """A probe by some of its fields: `reflect, depth 3`. Most need no name."""
    parts = []
    for field in fields:
        value = words(str(getattr(probe, field)))
        # Pixels have no padding and no weights, and results are no controls.
        if value not in ("", "none"):
            named = field in ("depth", "kernel_size", "readout_padding")
            parts.append(f"{words(field)} {value}" if named else value)
    # The control of pixels is the encoder of that name.
    return ", ".join(distinct(parts)) or probe.encoder


def words(name: str) -> str:
    """The words of a name: `kernel size` for `kernel_size`."""
    return name.replace("_", " ")


def number(value: float, decimals: int = 3) -> str:
    """A score without its leading zero, as `.931`, `−.050` or `1.000`; never a negative zero."""
    text = f"{value:z.{decimals}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def estimate(value: Interval | None, n_values: int, decimals: int = 3) -> str:
    """A mean and its interval, `.931 [.912, .948]`; a single value has no interval."""
    if value is None:
        return "undefined"
    mean, low, high = (number(part, decimals) for part in value)
    return f"{mean} [{low}, {high}]" if n_values > 1 else mean


def short(name: str, width: int = 40) -> str:
    """The end of a name that is longer than `width` characters: a path's end says the most."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def count(n: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def distinct(values: Iterable[T]) -> list[T]:
    """Each value once, in the order in which they first appear."""
    return list(dict.fromkeys(values))


def grouped(values: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The values by their key, in the order in which keys first appear."""
    groups: dict[K, list[T]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups


def batches(values: Sequence[T], size: int) -> list[Sequence[T]]:
    """`values` in parts of `size`, the last one smaller."""
    return [values[start : start + size] for start in range(0, len(values), size)]
