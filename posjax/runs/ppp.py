"""A run of PPP: patterns of every encoder and padding mode, beside what readouts find."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from posjax.encoders import PIXELS, base_mode
from posjax.images import Kept, Source
from posjax.probes.ppp import Jackknife, Pattern, mean, over_seeds
from posjax.runs import figures, image_sets, page
from posjax.runs.arms import arms, frozen
from posjax.runs.differences import paired_differences
from posjax.runs.map_figures import grid_of_maps
from posjax.runs.pattern import Geometry, check_count, geometry, patterns
from posjax.runs.records import Result, write_atomically, write_rows
from posjax.runs.run import Prepared, claim, prepare
from posjax.runs.run import run as run_readouts
from posjax.runs.settings import RANDOM, Settings
from posjax.runs.wording import count, distinct, estimate, listed
from posjax.runs.workdir import Workdir

Key = tuple[str, str, int | None]  # encoder, padding, seed
Found = dict[Key, dict[str, Pattern]]

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


def run(
    settings: Settings,
    *,
    title: str,
    say: Callable[[str], None] = print,
) -> Found:
    """Measures PPP, and writes ppp.csv and report.html to the workdir.

    Readouts are trained on the same encoders and images too, in the workdir's folder `posenet`, and
    the report says which padding modes the two put in another order.

    Raises:
        ValueError: flags, images, weights or a workdir that do not fit together.
    """
    if settings.coordinator_address is not None:
        raise ValueError("--coordinator_address: PPP runs on one host")
    unfit = [text for text in settings.paddings if "@" in text or _partly_valid(text)]
    if unfit:
        raise ValueError(
            f"--paddings: PPP compares maps of one size, not those of {', '.join(unfit)}; it has "
            "surroundings of its own"
        )
    names = [name for name in settings.encoder if name != PIXELS]
    if not names:
        raise ValueError("--encoder: PPP needs an encoder that pads, found pixels")
    if len(settings.weights) > 1:
        raise ValueError(f"--weights: PPP takes one, found {', '.join(settings.weights)}")
    prepared = prepare(settings)
    check_count(len(prepared.sets.images))
    where = {name: geometry(name, settings.image_size) for name in names}
    claim(Workdir(settings.workdir), settings, prepared)
    for name, place in where.items():
        say(
            f"{name}: crops of {place.crop} pixels in images of {place.image_size}, whose margin of"
            f" {place.margin} is no less than the receptive field"
        )
    found = _patterns(settings, where, prepared, say)
    scores = [f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")]
    columns = ("encoder", "weights", "padding", "seed", "stage", *scores)
    write_rows(settings.workdir / "ppp.csv", columns, _cells(settings, found))
    say(_text(found))
    readouts = dataclasses.replace(settings, workdir=settings.workdir / "posenet")
    results = run_readouts(readouts, title=title, say=say)
    path = settings.workdir / "report.html"
    about = _settings(settings, prepared, where)
    write_atomically(path, _report(settings, title, about, found, results).encode())
    say(f"report: {path}")
    return found


def _partly_valid(padding: str) -> bool:
    return "+" in padding and (base_mode(padding) == "valid" or "=valid" in padding)


def _patterns(
    settings: Settings,
    where: Mapping[str, Geometry],
    prepared: Prepared,
    say: Callable[[str], None],
) -> Found:
    counts = {place.image_size: len(prepared.sets.images) for place in where.values()}
    folder = image_sets.place(counts, settings.cache_dir or settings.workdir)
    say(f"images made: {image_sets.describe(counts, folder)}")
    kept = {}
    for side in counts:
        sized = dataclasses.replace(settings, image_size=side)
        kept[side] = Kept(image_sets.open_training(sized), side, folder)
    found: Found = {}
    for name, place in where.items():
        found |= _of_encoder(settings, name, place, kept[place.image_size], prepared.devices)
    return found


def _of_encoder(
    settings: Settings,
    name: str,
    where: Geometry,
    source: Source,
    devices: Sequence[jax.Device],
) -> Found:
    own = [arm for arm in arms(settings) if arm.encoder == name and not arm.control]
    every = [frozen(settings, arm) for arm in own]
    found: Found = {}
    # Encoders that share their weights share what they see within the true surroundings.
    for digest in distinct(encoder.digest for encoder in every):
        alike = [encoder for encoder in every if encoder.digest == digest]
        several = patterns(
            alike, source, where, batch_size=min(settings.batch_size, 4), devices=devices
        )
        for encoder, stages in zip(alike, several, strict=True):
            found[name, encoder.padding, encoder.seed] = stages
    return found


def _cells(settings: Settings, found: Found) -> Iterator[tuple]:
    for (name, padding, seed), stages in found.items():
        for stage, pattern in stages.items():
            values = [v for score in SCORES for v in _score([getattr(pattern, score)])]
            cells = [f"{value:.6g}" if np.isfinite(value) else "" for value in values]
            yield name, settings.weights[0], padding, seed, stage, *cells


def _report(
    settings: Settings,
    title: str,
    about: Mapping[str, str],
    found: Found,
    results: Sequence[Result],
) -> str:
    sections = {"Settings": page.facts(about)}
    for name in distinct(name for name, _, _ in found):
        own = {key[1:]: stages for key, stages in found.items() if key[0] == name}
        paddings = distinct(padding for padding, _ in own)
        by_padding = {
            mode: [stages for (padding, _), stages in own.items() if padding == mode]
            for mode in paddings
        }
        stage_names = list(next(iter(own.values())))
        tables = [
            page.table(
                f"{what} ({name})",
                ["stage", *paddings],
                [
                    [
                        stage,
                        *(
                            _cell([getattr(seed[stage], field) for seed in by_padding[mode]])
                            for mode in paddings
                        ),
                    ]
                    for stage in stage_names
                ],
                labels=1,
            )
            for what, field in (
                ("Magnitude", "magnitude"),
                ("Strength", "strength"),
                ("SNR", "snr"),
            )
        ]
        firsts = {mode: {s: p.map for s, p in by_padding[mode][0].items()} for mode in paddings}
        drawn = figures.png(grid_of_maps(firsts))
        path = settings.workdir / "figures" / f"patterns-{name}.png"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, drawn)
        caption = (
            "The pattern of the first seed, its absolute value's mean over channels; each stage has"
            " a scale of its own, in standard deviations of its features."
        )
        sections[name] = "\n".join([*tables, page.picture(drawn, caption)])
        if results:
            sections[f"{name} beside readouts"] = _beside(name, by_padding, results)
    return page.document(title, page.paragraph(_INTRODUCTION), sections)


def _settings(
    settings: Settings, prepared: Prepared, where: Mapping[str, Geometry]
) -> dict[str, str]:
    sets = prepared.sets
    tests = (f"{name} ({count(len(source), 'image')})" for name, source in sets.tests.items())
    drawn = f"random, drawn anew for seeds {listed(settings.seeds)}"
    return {
        "encoder": listed(where),
        "weights": drawn if settings.weights == (RANDOM,) else listed(settings.weights),
        "paddings": listed(settings.paddings),
        "padding of pools": settings.pool_padding or "as the convolutions",
        "images": f"{settings.images} ({count(len(sets.images), 'image')})",
        "crops": "; ".join(
            f"{name}: {place.crop} × {place.crop} pixels, {place.margin} from the image's border"
            for name, place in where.items()
        ),
        "normalisation": f"{settings.normalize} ({listed(prepared.about['normalize'])})",
        "readouts": f"on the same encoders and images, seeds {listed(settings.seeds)}; tested on"
        f" {listed(tests)}; their report is in the folder posenet",
    }


def _text(found: Found) -> str:
    """The strength of every stage as plain text: a line per encoder and padding mode."""
    lines = ["PPP: strength, in standard deviations of each stage's features", ""]
    for name in distinct(name for name, _, _ in found):
        own = {key[1:]: stages for key, stages in found.items() if key[0] == name}
        stages = list(next(iter(own.values())))
        lines.append(f"{name:<20}" + "".join(f"{stage:<22}" for stage in stages).rstrip())
        for mode in distinct(padding for padding, _ in own):
            seeds = [patterns for (padding, _), patterns in own.items() if padding == mode]
            cells = [_cell([patterns[stage].strength for patterns in seeds]) for stage in stages]
            lines.append(f"{mode:<20}" + "".join(f"{cell:<22}" for cell in cells).rstrip())
        lines.append("")
    return "\n".join(lines)


def _cell(estimates: Sequence[Jackknife]) -> str:
    value = _score(estimates)
    return estimate(value, 2) if np.isfinite(value).all() else "undefined"


def _score(estimates: Sequence[Jackknife]) -> tuple[float, float, float]:
    """As `over_seeds`, of a score that is never below 0."""
    value, low, high = over_seeds(estimates)
    return value, max(low, 0.0), high


def _beside(
    name: str, by_padding: dict[str, list[dict[str, Pattern]]], results: Sequence[Result]
) -> str:
    """Which pairs of padding modes the two put in another order, where both are sure of theirs."""
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
