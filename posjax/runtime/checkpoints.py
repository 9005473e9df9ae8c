"""Checkpoints of what is in training, so that a killed run does not begin it again."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from posjax.runtime.files import write_atomically

SECONDS_BETWEEN = 60.0


class Checkpoints:
    """The newest state of one training, in a folder of its own: one file, named by its step.

    A save that was killed leaves the one before it.
    """

    def __init__(self, folder: Path, seconds_between: float = SECONDS_BETWEEN):
        self._folder = folder
        self._seconds = seconds_between
        self._saved = time.monotonic()

    def restore(self, template: Any) -> tuple[int, Any]:
        """How many steps are done, and the numpy arrays after them; (0, template) for none.

        Raises:
            ValueError: the checkpoint cannot be read, or is of another training; names its file.
        """
        saved = [path for path in self._folder.glob("*") if path.name.isdigit()]
        if not saved:
            return 0, template
        path = max(saved, key=lambda path: int(path.name))
        try:
            read_only = serialization.msgpack_restore(path.read_bytes())
            state: Any = jax.tree.map(np.array, read_only)
            trees = (state, serialization.to_state_dict(template))
            shapes, expected = (jax.tree.map(np.shape, tree) for tree in trees)
            if shapes != expected:
                raise ValueError(f"arrays of the shapes {shapes}, expected {expected}")
            return int(path.name), serialization.from_state_dict(template, state)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"the checkpoint {path} cannot be read ({error}): delete it to start this training "
                "again"
            ) from error

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, done: int, state: Any) -> None:
        """Saves numpy arrays as the state after `done` steps, which must grow.

        Raises:
            OSError: it cannot be written; the one before it is still there.
        """
        path = self._folder / str(done)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, serialization.to_bytes(state))
        except OSError as error:
            raise OSError(
                f"the checkpoint {path} cannot be written, the one before it is still there "
                f"({error})"
            ) from error
        for other in self._folder.iterdir():
            if other != path:
                other.unlink()
        self._saved = time.monotonic()
