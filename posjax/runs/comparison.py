"""What a run found: its results, as tables, figures and a report."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from posjax.results import (
    Result,
    between_weights,
    paired_differences,
    summarise,
    to_frame,
    to_records,
    write_records,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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
        return self.results[index]

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

        return drawn_maps(self._without_controls(), test_images)

    def save(self, folder: str | Path, title: str = "Position by padding mode") -> Path:
        """Writes report.html, its figures, results.csv and controls.csv; gives the report's path.

        Raises:
            OSError: a file cannot be written.
        """
        from posjax.report import write_report

        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        write_records(folder, [record for result in self.results for record in to_records(result)])
        return write_report(folder, self.facts, self.results, title=title, notes=self.notes)

    def _without_controls(self) -> list[Result]:
        return [result for result in self.results if not result.probe.control]
