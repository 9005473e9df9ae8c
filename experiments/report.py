"""One report of several runs: their tables side by side, and differences on the same images.

    python -m experiments.report runs/a runs/b --workdir=runs/both

Runs may differ in encoders, weights, paddings, readouts and images. Where their images differ, the
names of test images say of which run they are. Other settings must be the same.
"""

import dataclasses
from pathlib import Path

from experiments import flags
from experiments.program import start_program
from posjax.runs import read_runs
from posjax.runs.fields import DEVICES, check_fields, setting
from posjax.runtime import progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Where the report goes."""

    workdir: Path = setting(Path("runs/report"), "Folder for the report.")
    devices: int = setting(0, **DEVICES)

    def __post_init__(self):
        """Refuses values that cannot be, by the name of the field."""
        check_fields(self)


def _report(*runs: str) -> None:
    if not runs:
        raise ValueError("give the workdirs of runs, such as runs/a runs/b")
    settings = flags.read(ReportSettings, "report")
    if settings.workdir.exists():
        raise ValueError(f"workdir={settings.workdir} is there already: name a new folder")
    results = read_runs([Path(run).expanduser() for run in runs])
    progress.say(str(results))
    progress.say(f"\nreport: {results.save(settings.workdir, 'Runs side by side')}")


if __name__ == "__main__":
    flags.define(ReportSettings, {}, {})
    start_program(_report, takes_names=True)
