"""The folder that a run leaves, and finds again when it is started once more."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax.probes.controls import Task
from posjax.runs.records import Record, Result, write_atomically, write_csv
from posjax.runs.result_files import load_result, save_result
from posjax.runs.rounding import matmul_precision

# What versions computed with that did not write it down.
UNWRITTEN = {"dtype": "float32", "precision": "default"}
PACKAGES = ("posjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Where a run's configuration, results, checkpoints and events lie."""

    path: Path

    def claim(self, science: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Writes config.json, or makes sure that the one that is there is of the same run.

        `science` is the flags that determine the results, and JAX's precision in force joins them;
        `about` is what they do not say: digests of weights and images, devices, and where files
        lie.

        Raises:
            ValueError: the folder belongs to a run with other flags, weights or images, which are
                named, holds files but no run, or cannot be made.
        """
        path = self.path / "config.json"
        science = {**science, "precision": matmul_precision()}
        science = json.loads(json.dumps(science, default=str))
        try:
            if path.exists():
                # Its versions and revision are those of the results that are there: it stays.
                return self._check_same(path, science, about)
            self.path.mkdir(parents=True, exist_ok=True)
            if any(not _leftover(entry) for entry in self.path.iterdir()):
                raise ValueError(f"--workdir={self.path} holds files, but no config.json of a run")
            config = {
                "flags": science,
                "workdir": str(self.path),
                "versions": {name: version(name) for name in PACKAGES},
                "git_revision": git_revision(),
                **about,
            }
            write_atomically(path, (json.dumps(config, indent=2) + "\n").encode())
        except OSError as error:
            raise ValueError(f"--workdir={self.path} cannot be used: {error}") from error

    def count_records(self) -> int:
        """The number of rows in results.csv and controls.csv, 0 where there are none."""
        paths = [path for path in self._tables() if path.exists()]
        return sum(len(path.read_text().splitlines()) - 1 for path in paths)

    def write_records(self, records: Sequence[Record]) -> None:
        """Writes results.csv, and what is a control to controls.csv, if anything is."""
        results, controls = self._tables()
        write_csv(results, [record for record in records if not record.control])
        if found := [record for record in records if record.control]:
            write_csv(controls, found)

    def _tables(self) -> tuple[Path, Path]:
        return self.path / "results.csv", self.path / "controls.csv"

    def result(self, group: str) -> Result | None:
        """The result of a finished group of readouts, or None.

        Raises:
            ValueError: its file cannot be read.
        """
        path = self._result_path(group)
        return load_result(path) if path.exists() else None

    def keep(self, group: str, result: Result) -> None:
        """Writes the result of a group: from here on the group is finished."""
        self._result_path(group).parent.mkdir(exist_ok=True)
        save_result(self._result_path(group), result)

    def checkpoints(self, group: str) -> Path:
        """The folder of the checkpoints of a group."""
        return self.path / "checkpoints" / group

    def features(self, host: int = 0) -> Path:
        """The folder of the features of one host that need not outlive the run."""
        return self.path / (f"features-{host}" if host else "features")

    def remove_features(self, host: int = 0, hosts: int = 1) -> None:
        """Deletes the features of one of several hosts, which may share the disk.

        The first host deletes those of an earlier start with more hosts too; of the workdir of
        another host nothing is left where it is on a disk of its own.
        """
        folders = [self.features(host)]
        if host == 0:
            in_use = {self.features(other) for other in range(hosts)}
            folders += set(self.path.glob("features-*")) - in_use
        for folder in folders:
            if folder.exists():
                shutil.rmtree(folder)
        if host and self.path.exists() and not any(self.path.iterdir()):
            self.path.rmdir()

    @contextlib.contextmanager
    def log(
        self, group: str, readouts: Sequence[tuple[Task, int]]
    ) -> Iterator[Callable[[int, np.ndarray], None]]:
        """A function that writes the epoch's loss of each (task, seed) as TensorBoard events."""
        # It takes a while to import, which --help and runs without a workdir need not wait for.
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(self.path / "tensorboard" / group)) as writer:

            def log(epoch: int, losses: np.ndarray) -> None:
                for (task, seed), loss in zip(readouts, losses, strict=True):
                    name = "-".join(filter(None, (task.map, task.control)))
                    writer.add_scalar(f"loss/{name}/seed{seed}", float(loss), epoch)

            yield log

    def _result_path(self, group: str) -> Path:
        return self.path / "probes" / f"{group}.npz"

    def _check_same(self, path: Path, science: dict[str, Any], about: dict[str, Any]) -> None:
        try:
            config = json.loads(path.read_text())
            flags = {name: UNWRITTEN[name] for name in UNWRITTEN.keys() & science.keys()}
            flags |= config["flags"]
            digests = {what: config[f"{what}_digests"] for what in ("weight", "image")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no configuration of a run ({error!r})") from error
        changed = [
            flag
            for flag in sorted(flags.keys() | science.keys())
            if flags.get(flag) != science.get(flag)
        ]
        # What is taken of images that do not end says nothing where the flag itself is given.
        other = [
            f"--{name} was {flags.get(flag)!r} and is {science.get(flag)!r}"
            for flag in changed
            if (name := flag.replace("endless", "num")) == flag or name not in changed
        ]
        if not other:
            other = [
                f"the {what}s were {was} and are {about[f'{what}_digests']}"
                for what, was in digests.items()
                if was != about[f"{what}_digests"]
            ]
        if other:
            raise ValueError(
                f"--workdir={self.path} belongs to a run with other flags: {'; '.join(other)}. "
                "Choose another --workdir, or delete this one."
            )


def _leftover(path: Path) -> bool:
    # Of a run that was killed while it wrote its configuration.
    return path.name.startswith(".config.json.") and path.suffix == ".tmp"


def describe_devices(devices: Sequence[jax.Device], hosts: int = 1) -> str:
    """For people: "8 × cpu", "1 × NVIDIA H100 (gpu)", "2 hosts with 8 × cpu each"."""
    kind, platform = devices[0].device_kind, devices[0].platform
    text = f"{len(devices)} × {platform if kind == platform else f'{kind} ({platform})'}"
    return text if hosts == 1 else f"{hosts} hosts with {text} each"


def git_revision() -> str | None:
    """The commit of the checkout that posjax runs from, "+changes" if it has any, or None."""

    def git(*args: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *args], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
