"""Checkpoints of what is in training, so that a killed run does not begin it again."""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

SECONDS_BETWEEN = 60.0


class Checkpoints:
    """The state of one training, such as that of a group of readouts, in one folder.

    Only the newest is kept. A save that was killed is ignored by the next start. Of several hosts
    only the first has them: nothing here waits for the others.
    """

    def __init__(self, folder: Path, seconds_between: float | None = None):
        # Its import takes a while. A program's help and runs without a workdir need not wait for
        # that.
        import orbax.checkpoint as ocp

        self._folder = folder.absolute()
        self._args = ocp.args
        self._folder.mkdir(parents=True, exist_ok=True)
        # By a link: in the names of folders the library takes `[`, `*` and `?` for signs of a
        # pattern, and nothing but UTF-8.
        self._temporary = tempfile.TemporaryDirectory(prefix="posjax-")
        link = Path(self._temporary.name, "checkpoints")
        link.symlink_to(self._folder)
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        self._manager = ocp.CheckpointManager(
            link,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1, create=False, multiprocessing_options=alone
            ),
        )
        self._saved = time.monotonic()
        self._seconds = SECONDS_BETWEEN if seconds_between is None else seconds_between

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()
        self._temporary.cleanup()

    def restore(self, template: Any) -> tuple[int, Any]:
        """How many steps (or epochs) are done, and the state after them; (0, template) for none.

        Raises:
            ValueError: the checkpoint cannot be read, or is of another training; names its folder.
        """
        done = self._manager.latest_step()
        if done is None:
            return 0, template
        try:
            state = self._manager.restore(done, args=self._args.StandardRestore(template))
            shapes, expected = (jax.tree.map(np.shape, tree) for tree in (state, template))
            if shapes != expected:
                raise ValueError(f"arrays of the shapes {shapes}, expected {expected}")
            return done, state
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"the checkpoint {self._folder / str(done)} cannot be read ({error}): delete it "
                "to start this training again"
            ) from error

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, done: int, state: Any) -> None:
        """Saves numpy arrays as the state after `done` steps (or epochs), which must grow.

        Raises:
            OSError: it cannot be written; the one before it is still there.
        """
        try:
            saved = self._manager.save(done, args=self._args.StandardSave(state))
            self._manager.wait_until_finished()
            if not saved:
                raise ValueError("a later one is there already")
        # What the file system refuses comes as one of these.
        except (ValueError, OSError) as error:
            raise OSError(
                f"the checkpoint {self._folder / str(done)} cannot be written, the one before it "
                f"is still there ({error})"
            ) from error
        self._saved = time.monotonic()
