"""How much memory there is, and whether what is to be computed can fit into it."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax


@dataclasses.dataclass(frozen=True)
class Need:
    """The least bytes that something takes: of main memory, and on each device in use.

    `what` is for people and begins with the argument that asks for it. `smaller` says what to
    change.
    """

    what: str
    smaller: str
    host: int = 0
    device: int = 0


def memory_bytes() -> int:
    """The memory of this machine, or what its container may take."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    # Where Linux says how much a container may take.
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        text = path.read_text().strip() if path.is_file() else ""
        limits += [int(text)] if text.isdecimal() else []
    return min(limits)


def bytes_text(size: int) -> str:
    """A number of bytes for people: "12.3 kB", "0.4 MB", "1,234.5 MB" (1 MB is 1e6 bytes)."""
    return f"{size / 1e3:.1f} kB" if size < 1e5 else f"{size / 1e6:,.1f} MB"


def check_memory(needs: Iterable[Need], devices: Sequence[jax.Device]) -> None:
    """Refuses what cannot fit, each by itself. The devices of a CPU share the main memory.

    Raises:
        ValueError: something needs more than there is.
    """
    on_cpu = devices[0].platform == "cpu"
    on_device = None if on_cpu else (devices[0].memory_stats() or {}).get("bytes_limit")
    for need in needs:
        host = need.host + (need.device * len(devices) if on_cpu else 0)
        for size, there, where in (
            (host, memory_bytes(), "this machine"),
            (need.device, on_device, f"a device ({devices[0].device_kind})"),
        ):
            if there is not None and size > there:
                raise ValueError(
                    f"{need.what} needs at least {size / 1e9:,.1f} GB of memory, and {where} has "
                    f"{there / 1e9:,.1f} GB: {need.smaller}"
                )
