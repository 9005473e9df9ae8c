"""The folder that a run leaves, and finds again when it is started once more."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from posjax import __version__
from posjax.fitting import Readouts
from posjax.results import Result, load_result, save_result
from posjax.runtime import arithmetic, write_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Where a run's configuration, results and events lie."""

    path: Path

    def claim(self, identity: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Writes config.json, or makes sure that the one that is there is of the same run.

        `identity` are the settings that determine the results; JAX's arithmetic joins them. `about`
        has the digests of weights and images, and what else the file should say.

        Raises:
            ValueError: the folder belongs to a run with other settings, weights or images, which
                are named; it holds files but no run, or cannot be made.
        """
        path = self.path / "config.json"
        flags = {**identity, **arithmetic()}
        flags = json.loads(json.dumps(flags, default=str))
        try:
            if path.exists():
                # It keeps the versions and the revision of the results that are there.
                return self._check_same(path, flags, about)
            self.path.mkdir(parents=True, exist_ok=True)
            # What a run left that was killed while it wrote its configuration may stay.
            if set(self.path.iterdir()) - set(self.path.glob(".config.json.*.tmp")):
                raise ValueError(f"workdir={self.path} holds files, but no config.json of a run")
            config = {
                "flags": flags,
                "workdir": str(self.path),
                "versions": {"posjax": __version__} | {name: _version(name) for name in PACKAGES},
                "git_revision": git_revision(),
                **about,
            }
            write_text(path, json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise ValueError(f"workdir={self.path} cannot be used: {error}") from error

    def _check_same(self, path: Path, flags: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        try:
            config = json.loads(path.read_text("utf-8"))
            before = {"x64": False} | config["flags"]
            digests = {what: config[f"{what}_digests"] for what in ("weight", "image")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no configuration of a run ({error!r})") from error
        changed = {name for name in {*before, *flags} if before.get(name) != flags.get(name)}
        # The default number of generated images means nothing where the number itself is given.
        changed -= {f"default_{name}" for name in changed}
        differences = [
            f"{name.removeprefix('default_')} was {before.get(name)!r} and is {flags.get(name)!r}"
            for name in sorted(changed)
        ] or [
            f"the {what}s were {digest} and are {about[f'{what}_digests']}"
            for what, digest in digests.items()
            if digest != about[f"{what}_digests"]
        ]
        if differences:
            raise ValueError(
                f"workdir={self.path} belongs to a run with other settings: "
                f"{'; '.join(differences)}. Choose another workdir, or delete this one."
            )

    def count_records(self) -> int:
        """The number of rows in results.csv and controls.csv, 0 where there are none."""
        paths = (self.path / name for name in ("results.csv", "controls.csv"))
        return sum(len(p.read_text("utf-8").splitlines()) - 1 for p in paths if p.exists())

    def result(self, key: str) -> Result | None:
        """The result of finished readouts, or None.

        Raises:
            ValueError: its file cannot be read.
        """
        path = self._result_path(key)
        return load_result(path) if path.exists() else None

    def keep(self, key: str, result: Result) -> None:
        """Writes the result of readouts, which are finished from here on."""
        self._result_path(key).parent.mkdir(exist_ok=True)
        save_result(self._result_path(key), result)

    def scratch(self, host: int) -> Path:
        """The folder of one host for what need not outlive the run."""
        return self.path / f"scratch-{host}"

    def remove_scratch(self, hosts: int) -> None:
        """Deletes the scratch folders of an earlier start with more hosts."""
        in_use = {self.scratch(host) for host in range(hosts)}
        for folder in set(self.path.glob("scratch-*")) - in_use:
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def log(self, key: str, readouts: Readouts) -> Iterator[Callable[[int, np.ndarray], None]]:
        """A function that writes the epoch's loss of each readout as TensorBoard events."""
        # Its import takes a while. A program's help need not wait for that.
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(self.path / "tensorboard" / key)) as writer:

            def log(epoch: int, losses: np.ndarray) -> None:
                for task, seed, loss in zip(readouts.tasks, readouts.seeds, losses, strict=True):
                    name = "-".join(filter(None, (task.map, task.control)))
                    writer.add_scalar(f"loss/{name}/seed{seed}", float(loss), epoch)

            yield log

    def _result_path(self, key: str) -> Path:
        return self.path / "probes" / f"{key}.npz"


def _version(package: str) -> str | None:
    # Not every installer leaves metadata.
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None


def git_revision() -> str | None:
    """The commit of the checkout that posjax runs from, "+changes" if it has any, or None."""
    command = ("git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes")
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
