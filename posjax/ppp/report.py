"""The report of PPP: patterns of every encoder and padding, beside the scores of readouts."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from posjax.ppp.pattern import SCORES, Pattern, Patterns, over_seeds, score_interval
from posjax.report.figures import grid_of_maps
from posjax.report.formatting import estimate
from posjax.report.page import Element, Page, Picture, Table, facts
from posjax.report.panels import slug
from posjax.report.tables import pivot
from posjax.report.terminal import as_text
from posjax.results import Interval, Result, paired_differences

ByPadding = dict[str, list[dict[str, Pattern]]]
"""By padding, the patterns of an encoder's stages for each seed."""

_INTRODUCTION = (
    "The features of a crop that is padded, less those of the same crop within its true"
    " surroundings, averaged over images: what is left depends on the position and not on the"
    " image. Magnitude is the mean of its absolute value, with what chance leaves of so few"
    " images; strength is its root mean square without that. Both are in units of the standard"
    " deviation of each stage's features. SNR is the strength over the root mean square of what"
    " differs from image to image. Intervals are 95 %, over images by leaving out each fifth of"
    " them, and over seeds where weights are random. (Lin et al., ICML 2023.)"
)
_CAPTION = (
    "The pattern of the first seed: the mean of its absolute value over channels. Each stage has a"
    " scale of its own, in standard deviations of its features."
)


def write_report(
    workdir: Path,
    settings: Mapping[str, str],
    patterns: Patterns,
    results: Sequence[Result],
    *,
    title: str,
) -> Path:
    """Writes `workdir`/report.html and its figures; returns the path.

    `results` are those of readouts on the same encoders. `settings` are shown by name.
    """
    sections: dict[str, list[Element]] = {"Settings": [facts(settings)]}
    for name, by_padding in _by_encoder(patterns).items():
        firsts = {
            padding: {stage: pattern.map for stage, pattern in seeds[0].items()}
            for padding, seeds in by_padding.items()
        }
        picture = Picture(f"patterns-{slug(name)}", grid_of_maps(firsts), _CAPTION)
        sections[name] = [*(_table(name, by_padding, score) for score in SCORES), picture]
        if results:
            sections[f"{name} beside readouts"] = _beside(name, by_padding, results)
    return Page(title, sections, [_INTRODUCTION], files=["ppp.csv"]).write(workdir)


def text_tables(patterns: Patterns) -> str:
    """The strength of every stage as plain text: a table for each encoder."""
    lines = ["PPP: strength, in standard deviations of each stage's features"]
    for name, by_padding in _by_encoder(patterns).items():
        lines.append(as_text(_table(name, by_padding, "strength")))
    return "\n\n".join(lines) + "\n"


def _by_encoder(patterns: Patterns) -> dict[str, ByPadding]:
    encoders: dict[str, ByPadding] = {}
    for (encoder, padding, _), stages in patterns.items():
        encoders.setdefault(encoder, {}).setdefault(padding, []).append(stages)
    return encoders


def _table(name: str, by_padding: ByPadding, score: str) -> Table:
    cells = []
    for padding, seeds in by_padding.items():
        for stage in seeds[0]:
            value = score_interval([getattr(stages[stage], score) for stages in seeds])
            text = estimate(value, 2) if np.isfinite(value).all() else "undefined"
            cells.append(([stage], padding, text))
    title = "SNR" if score == "snr" else score.capitalize()
    return pivot(f"{title} ({name})", ["stage"], cells)


def _beside(name: str, by_padding: ByPadding, results: Sequence[Result]) -> list[Element]:
    """The pairs of padding modes that the two order differently, where both intervals exclude 0."""
    sizes = {
        mode: [np.mean([p.strength for p in stages.values()], axis=0) for stages in seeds]
        for mode, seeds in by_padding.items()
    }
    of_encoder = [r for r in results if r.probe.encoder == name and not r.probe.control]
    rows, compared = [], 0
    for one, other in itertools.combinations(by_padding, 2):
        pattern = over_seeds([a - b for a, b in zip(sizes[one], sizes[other], strict=True)])
        for row in paired_differences(of_encoder, other):
            signs = _sign(pattern) * _sign(row.spc) if row.spc else 0
            if row.probe.padding != one or row.probe.control or not signs:
                continue
            compared += 1
            if signs < 0:
                cells = (estimate(pattern, 2), estimate(row.spc, 2))
                rows.append([f"{one} less {other}", row.map, row.test_images, *cells])
    text = (
        f"Of {compared} comparisons of two padding modes on a position map and a set of test images"
        " in which both the mean strength of PPP over all stages and the SPC of readouts differ"
        f" with an interval that excludes 0, {len(rows)} are ordered differently."
    )
    head = ["paddings", "map", "test images", "PPP strength", "SPC"]
    table = Table("Where PPP and readouts disagree", head, rows, 3)
    return [text, table] if rows else [text]


def _sign(interval: Interval) -> int:
    _, low, high = interval
    return (low > 0) - (high < 0)
