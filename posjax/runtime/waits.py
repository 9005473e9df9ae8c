"""Waits: whether encoding waited for images, or images for the devices."""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


@dataclasses.dataclass
class Waits:
    """Seconds that this host spends on encoding, and for how many of them it waits.

    While it waits for `images`, devices compute one batch at most; while it waits for `devices`,
    the next images are there. The rest of `encoding` is compilation and storing features.
    """

    encoding: float = 0.0
    images: float = 0.0
    devices: float = 0.0

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds the time that the block takes to one of the three."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.perf_counter() - start)

    def each(self, images: Iterable[T]) -> Iterator[T]:
        """The batches of images; counts the time until each is there."""
        batches = iter(images)
        while True:
            with self.timed("images"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def __str__(self) -> str:
        return (
            f"encoding: {self.encoding:.1f} s. Of these, devices waited for images for up to "
            f"{self.images:.1f} s, and this host waited for devices for {self.devices:.1f} s"
        )
