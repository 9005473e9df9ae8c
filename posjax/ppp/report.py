"""The report of PPP: patterns of every encoder and padding, beside what readouts find."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from posjax.ppp.pattern import Jackknife, Pattern, mean, over_seeds
from posjax.report import figures, page
from posjax.report.formatting import distinct, estimate
from posjax.report.map_figures import grid_of_maps
from posjax.results import Result, paired_differences
from posjax.runtime import write_atomically

Patterns = dict[tuple[str, str, int | None], dict[str, Pattern]]
"""By encoder, padding and seed, the pattern of each stage."""
ByPadding = dict[str, list[dict[str, Pattern]]]

SCORES = ("magnitude", "strength", "snr")

_INTRODUCTION = (
    "The features of a crop that is padded, less those of the same crop within its true"
    " surroundings, averaged over images: what is left does not depend on the image, and so tells"
    " the position. Magnitude is the mean of its absolute value, with what chance leaves of so few"
    " images; strength is its root mean square without that. Both are in units of the standard"
    " deviation of each stage's features. SNR is the strength over the root mean square of what"
    " differs from image to image. Intervals are 95 %, over images by leaving out each fifth of"
    " them, and over seeds where weights are random. (Lin et al., ICML 2023.)"
)


def write_report(
    workdir: Path,
    facts: Mapping[str, str],
    patterns: Patterns,
    results: Sequence[Result],
    *,
    title: str,
) -> Path:
    """Writes `workdir`/report.html and its figures; returns the path.

    `results` are those of readouts on the same encoders. `facts` are the settings by name.
    """
    sections = {"Settings": page.facts(facts)}
    for name in distinct(name for name, _, _ in patterns):
        by_padding = _by_padding(patterns, name)
        sections[name] = "\n".join([*_tables(name, by_padding), _picture(workdir, name, by_padding)])
        if results:
            sections[f"{name} beside readouts"] = _beside(name, by_padding, results)
    path = workdir / "report.html"
    html = page.document(title, page.paragraph(_INTRODUCTION), sections)
    write_atomically(path, html.encode())
    return path


def _by_padding(patterns: Patterns, name: str) -> ByPadding:
    """The patterns of an encoder's stages, one for each seed, by padding."""
    found: ByPadding = {}
    for (encoder, padding, _), stages in patterns.items():
        if encoder == name:
            found.setdefault(padding, []).append(stages)
    return found


def _tables(name: str, by_padding: ByPadding) -> list[str]:
    stages = list(next(iter(by_padding.values()))[0])
    tables = []
    for score in SCORES:
        rows = [
            [stage, *(_cell([getattr(s[stage], score) for s in seeds]) for seeds in by_padding.values())]
            for stage in stages
        ]
        title = "SNR" if score == "snr" else score.capitalize()
        tables.append(page.table(f"{title} ({name})", ["stage", *by_padding], rows, labels=1))
    return tables


def _picture(workdir: Path, name: str, by_padding: ByPadding) -> str:
    firsts = {mode: {s: p.map for s, p in seeds[0].items()} for mode, seeds in by_padding.items()}
    drawn = figures.png(grid_of_maps(firsts))
    path = workdir / "figures" / f"patterns-{name}.png"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, drawn)
    caption = (
        "The pattern of the first seed: the mean of its absolute value over channels. Each stage has"
        " a scale of its own, in standard deviations of its features."
    )
    return page.picture(drawn, caption)


def as_text(patterns: Patterns) -> str:
    """The strength of every stage as plain text: a line for each encoder and padding mode."""
    lines = ["PPP: strength, in standard deviations of each stage's features", ""]
    for name in distinct(name for name, _, _ in patterns):
        by_padding = _by_padding(patterns, name)
        stages = list(next(iter(by_padding.values()))[0])
        lines.append(f"{name:<20}" + "".join(f"{stage:<22}" for stage in stages).rstrip())
        for mode, seeds in by_padding.items():
            cells = [_cell([seed[stage].strength for seed in seeds]) for stage in stages]
            lines.append(f"{mode:<20}" + "".join(f"{cell:<22}" for cell in cells).rstrip())
        lines.append("")
    return "\n".join(lines)


def _cell(estimates: Sequence[Jackknife]) -> str:
    value = score_interval(estimates)
    return estimate(value, 2) if np.isfinite(value).all() else "undefined"


def score_interval(estimates: Sequence[Jackknife]) -> tuple[float, float, float]:
    """As `over_seeds`, of a score that is never below 0."""
    value, low, high = over_seeds(estimates)
    return value, max(low, 0.0), high


def _beside(name: str, by_padding: ByPadding, results: Sequence[Result]) -> str:
    """The pairs of padding modes that the two order differently, where both intervals exclude 0."""
    sizes = {
        mode: [mean([pattern.strength for pattern in stages.values()]) for stages in seeds]
        for mode, seeds in by_padding.items()
    }
    of_encoder = [r for r in results if r.probe.encoder == name and not r.probe.control]
    rows, compared = [], 0
    for one, other in itertools.combinations(by_padding, 2):
        pattern = over_seeds([a - b for a, b in zip(sizes[one], sizes[other], strict=True)])
        for row in paired_differences(of_encoder, other):
            if row.probe.padding != one or row.probe.control or row.spc is None:
                continue
            if _sign(pattern) and _sign(row.spc):
                compared += 1
                if _sign(pattern) != _sign(row.spc):
                    cells = (estimate(pattern, 2), estimate(row.spc, 2))
                    rows.append([f"{one} less {other}", row.map, row.test_images, *cells])
    text = (
        f"Of {compared} comparisons of two padding modes on a position map and a set of test images"
        " in which both the mean strength of PPP over all stages and the SPC of readouts differ"
        f" with an interval that excludes 0, {len(rows)} are ordered differently."
    )
    if not rows:
        return page.paragraph(text)
    head = ["paddings", "map", "test images", "PPP strength", "SPC"]
    return page.paragraph(text) + page.table("Where PPP and readouts disagree", head, rows, 3)


def _sign(interval: tuple[float, float, float]) -> int:
    _, low, high = interval
    return (low > 0) - (high < 0)
