"""Frames: summaries and differences as tidy pandas tables, one row a score."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from posjax.results.differences import Difference
from posjax.results.summaries import Means, Summary

if TYPE_CHECKING:
    import pandas as pd


def to_frame(rows: Sequence[Summary] | Sequence[Difference]) -> "pd.DataFrame":
    """A row for each score (spc, mae, and of summaries skill) of each summary or difference.

    The columns are those of a probe, `map`, `test_images` and, of differences, `reference`; then
    `score`, `mean`, and `low` and `high` of its 95 % interval, NaN where nothing is defined;
    `undefined`, the number of values without an SPC; and `n`, the number of values, images times
    seeds.
    """
    # Its import takes a while, for which a program's help need not wait.
    import pandas as pd

    return pd.DataFrame([cells for row in rows for cells in _scores(row)])


def _scores(row: Means) -> Iterator[dict[str, Any]]:
    about = dataclasses.asdict(row.probe) | {"map": row.map, "test_images": row.test_images}
    scores = {"spc": row.spc, "mae": row.mae}
    if isinstance(row, Difference):
        about["reference"] = row.reference
    if isinstance(row, Summary):
        _, low, high = row.mae
        scores["skill"] = (row.skill, 1 - high / row.mae_constant, 1 - low / row.mae_constant)
    for score, interval in scores.items():
        mean, low, high = interval or (float("nan"),) * 3
        yield about | {
            "score": score,
            "mean": mean,
            "low": low,
            "high": high,
            "undefined": row.spc_undefined if score == "spc" else 0,
            "n": row.n_seeds * row.n_images,
        }
