"""A run of PPP: patterns of every encoder and padding mode, beside the scores of readouts."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from posjax import encoders, runtime
from posjax.encoders import PIXELS, VALID, Wrapped
from posjax.images import Kept
from posjax.ppp.measure import Geometry, check_count, crop_geometry, patterns
from posjax.ppp.pattern import SCORES, Patterns, score_interval
from posjax.runs.conditions import conditions, load_encoder
from posjax.runs.image_sets import ImagePlan, open_training
from posjax.runs.memory import images_need
from posjax.runs.plan import Plan, prepare
from posjax.runs.run import run as run_readouts
from posjax.runs.settings import Settings
from posjax.runs.workdir import Workdir
from posjax.runtime import Need, progress, write_rows


def run(settings: Settings, *, title: str, say: Callable[[str], None] = progress.say) -> Patterns:
    """Measures PPP, and writes ppp.csv and report.html to the workdir.

    Readouts are trained on the same encoders and images too, in the workdir's folder `posenet`. The
    report says which padding modes the two order differently.

    Raises:
        ValueError: settings, images, weights or a workdir that do not fit together.
    """
    # matplotlib comes with it. A program's help need not wait for that.
    from posjax.ppp.report import text_tables, write_report

    _check(settings)
    plan = prepare(settings)
    check_count(len(plan.sets.train))
    names = [name for name in settings.encoder if name != PIXELS]
    places = {name: crop_geometry(name, settings.image_size) for name in names}
    runtime.check_memory(_needs(settings, places.items(), len(plan.devices)), plan.devices)
    Workdir(settings.workdir).claim(settings.identity(), plan.about)
    for name, place in places.items():
        say(
            f"{name}: crops of {place.crop} pixels in images of {place.image_size}, whose margin of"
            f" {place.margin} is no less than the receptive field"
        )
    sizes = {place.image_size: len(plan.sets.train) for place in places.values()}
    images = ImagePlan(sizes, settings.cache_dir or settings.workdir)
    say(f"images made: {images}")
    measured = _measure(settings, places, images, plan)
    scores = [f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")]
    columns = ("encoder", "weights", "padding", "seed", "stage", *scores)
    write_rows(settings.workdir / "ppp.csv", columns, _rows(settings, measured))
    say(text_tables(measured))
    readouts = dataclasses.replace(settings, workdir=settings.workdir / "posenet")
    results = run_readouts(readouts, title=title, say=say)
    crops = "; ".join(
        f"{name}: {place.crop} × {place.crop} pixels, {place.margin} from the image's border"
        for name, place in places.items()
    )
    about = "on the same encoders and images; their report is in the folder posenet"
    facts = plan.facts | {"crops": crops, "readouts": about}
    path = write_report(settings.workdir, facts, measured, results, title=title)
    say(f"report: {path}")
    return measured


def _check(settings: Settings) -> None:
    """Refuses settings that PPP cannot run."""
    if settings.coordinator_address is not None:
        raise ValueError("coordinator_address: PPP runs on one host")
    unfit = [
        str(padding)
        for padding in settings.paddings
        if padding.alignment or (padding.overrides and VALID in padding.modes)
    ]
    if unfit:
        raise ValueError(
            f"paddings: PPP compares maps of one size, not those of {', '.join(unfit)}; it has "
            "surroundings of its own"
        )
    if set(settings.encoder) <= {PIXELS}:
        raise ValueError("encoder: PPP needs an encoder that pads, not pixels")
    if any(len(settings.weights_of(encoder)) > 1 for encoder in settings.encoder):
        raise ValueError(f"weights: PPP takes one, not {', '.join(settings.weights)}")


def _needs(
    settings: Settings, places: Iterable[tuple[str | Wrapped, Geometry]], devices: int
) -> Iterator[Need]:
    """What the encoders take for whole images."""
    images = -(-_batch_size(settings) // devices)
    for name, place in places:
        shapes = encoders.stage_shapes(name, None, place.image_size)
        yield images_need(shapes, place.image_size, images, settings.dtype)


def _batch_size(settings: Settings) -> int:
    return min(settings.batch_size, 4)


def _measure(
    settings: Settings, places: Mapping[str | Wrapped, Geometry], images: ImagePlan, plan: Plan
) -> Patterns:
    kept = {side: Kept(open_training(settings, side), side, images.place) for side in images}
    batch_size = _batch_size(settings)
    measured: Patterns = {}
    for name, place in places.items():
        chosen = [c for c in conditions(settings) if c.encoder == name and not c.control]
        loaded = [load_encoder(settings, condition) for condition in chosen]
        # Encoders that share their weights share what they see within the true surroundings.
        for digest in dict.fromkeys(encoder.digest for encoder in loaded):
            alike = [encoder for encoder in loaded if encoder.digest == digest]
            source = kept[place.image_size]
            stages = patterns(alike, source, place, batch_size=batch_size, devices=plan.devices)
            for encoder, by_stage in zip(alike, stages, strict=True):
                measured[encoder.name, encoder.padding_text, encoder.seed] = by_stage
    return measured


def _rows(settings: Settings, measured: Patterns) -> Iterator[tuple]:
    weights = {str(name): "".join(settings.weights_of(name)) for name in settings.encoder}
    for (name, padding, seed), stages in measured.items():
        for stage, pattern in stages.items():
            values = [v for score in SCORES for v in score_interval([getattr(pattern, score)])]
            cells = [f"{value:.6g}" if np.isfinite(value) else "" for value in values]
            yield name, weights[name], padding, seed, stage, *cells
