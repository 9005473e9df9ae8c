"""What one run or several found: results as tables, figures and a report."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from posjax.results import (
    Result,
    between_weights,
    by_key,
    load_result,
    paired_differences,
    summarise,
    to_frame,
    to_records,
    write_records,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# What runs that stand side by side may differ in. Their results or names say it.
MAY_DIFFER = (
    *("encoder", "weights", "paddings", "pool_padding", "stages", "maps", "depths"),
    *("kernel_sizes", "readout_paddings", "one_at_a_time", "seeds", "solver", "controls"),
    *("images", "test_images", "num_train", "num_test"),
    *("default_num_train", "default_num_test", "skip_bad_images", "manual_dir"),
)


@dataclasses.dataclass(frozen=True)
class Results(Sequence[Result]):
    """The results of a run, one for each encoder, padding and readout, controls included.

    `facts` are the settings that bear on them, by name; `notes` are what a reader should know.
    A notebook shows them as a table of SPC.
    """

    results: tuple[Result, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __getitem__(self, index):
        chosen = self.results[index]
        is_part = isinstance(index, slice)
        return dataclasses.replace(self, results=chosen) if is_part else chosen

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __str__(self) -> str:
        # matplotlib comes with the report.
        from posjax.report import text_table

        return text_table(self.results)

    def _repr_html_(self) -> str:
        from posjax.report import html_tables

        return html_tables(self.results)

    def to_frame(self) -> "pd.DataFrame":
        """A tidy table, one row a score, controls too, see `posjax.results.to_frame`."""
        return to_frame(summarise(self.results))

    def differences(
        self, between: Literal["paddings", "weights"] = "paddings", reference: str | None = None
    ) -> "pd.DataFrame":
        """Differences on the same seeds and images, a tidy table with a column `reference`.

        They are those of each padding from `reference`, by default zeros, or of each set of weights
        from the first.
        """
        if between == "weights":
            return to_frame(between_weights(self.results))
        return to_frame(paired_differences(self.results, reference))

    def plot(self) -> "Figure":
        """A matplotlib figure: SPC with 95 % intervals by padding, a panel for each map."""
        from posjax.report import figures

        return figures.bars(summarise(self._without_controls()), "spc")

    def plot_maps(self, test_images: str | None = None) -> "Figure":
        """A matplotlib figure: what the first seed's readouts draw of each map on one test image.

        Args:
            test_images: the name of a set of test images, by default the first.

        Raises:
            ValueError: there is no such set.
        """
        from posjax.report import drawn_maps

        results = self._without_controls()
        return drawn_maps(results, summarise(results), test_images)

    def save(self, folder: str | Path, title: str = "Position by padding mode") -> Path:
        """Writes report.html, its figures, results.csv and controls.csv; gives the report's path.

        Raises:
            OSError: a file cannot be written.
        """
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        write_records(folder, [record for result in self.results for record in to_records(result)])
        return self.write_report(folder, title)

    def write_report(self, folder: Path, title: str) -> Path:
        """Writes report.html and its figures beside results.csv; gives the report's path.

        Raises:
            OSError: a file cannot be written.
        """
        from posjax.report import write_report

        return write_report(folder, self.facts, self.results, title=title, notes=self.notes)

    def _without_controls(self) -> list[Result]:
        return [result for result in self.results if not result.probe.control]


def read_runs(folders: Sequence[Path]) -> Results:
    """The results of finished or unfinished runs, as if one run had them all.

    Where a run has other training images than the first, or other test images of the same name, the
    names of its test images say which run they are of: nothing is then compared with others.

    Raises:
        ValueError: a folder holds no run, runs differ in a setting that changes all scores, or two
            of them hold the same readouts.
    """
    runs = [(folder, *_read(folder)) for folder in folders]
    _check_settings([(folder, config["flags"]) for folder, config, _ in runs])
    (_, first, _), *_ = runs
    facts: dict[str, str] = {}
    joined: list[Result] = []
    for folder, config, results in runs:
        same = _same_images(first["image_digests"], config["image_digests"])
        joined += results if same else [_named(result, str(folder)) for result in results]
        flags = {name: str(value) for name, value in config["flags"].items()}
        facts |= {f"{folder}: {name}": flags[name] for name in ("encoder", "weights", "paddings")}
        facts |= {f"{folder}: images": f"{flags['images']}, tested on {flags['test_images']}"}
    for (probe, name, tests), group in by_key(joined).items():
        seeds = [readout.seed for readout in group]
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                f"two of the runs hold readouts of {name} on {probe.encoder} under {probe.padding} "
                f"with the same seeds and images ({tests}): leave one out"
            )
    return Results(tuple(joined), facts)


def _read(folder: Path) -> tuple[dict[str, Any], list[Result]]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config = {"flags": dict(config["flags"]), "image_digests": dict(config["image_digests"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is no workdir of a run: {error!r}") from error
    paths = sorted(folder.glob("probes/*.npz"), key=lambda path: path.stat().st_mtime_ns)
    if not paths:
        raise ValueError(f"{folder} holds no results: run it first")
    return config, [load_result(path) for path in paths]


def _check_settings(runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    (first, ours), *others = runs
    for folder, theirs in others:
        names = sorted({*ours, *theirs} - {*MAY_DIFFER})
        unlike = [name for name in names if ours.get(name) != theirs.get(name)]
        if unlike:
            name = unlike[0]
            raise ValueError(
                f"{first} and {folder} cannot be compared: {name} was {ours.get(name)!r} and "
                f"{theirs.get(name)!r}"
            )


def _same_images(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    return all(ours[name] == theirs[name] for name in {*ours} & {*theirs})


def _named(result: Result, run: str) -> Result:
    """The same result, whose test images have the name of its run."""
    return dataclasses.replace(
        result,
        scores={f"{name} ({run})": scores for name, scores in result.scores.items()},
        galleries={f"{name} ({run})": images for name, images in result.galleries.items()},
    )
