"""A run on padding-aware channels: which they are, and what readouts lose without them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from posjax.encoders import Encoder
from posjax.images import Source, read_pixels
from posjax.ppp.aware import (
    LayerBorders,
    measure_borders,
    padded_convolutions,
)
from posjax.ppp.aware_maps import Channel, ChannelMaps, channel_maps
from posjax.ppp.aware_statistics import BorderEffect, EncoderEffects, aware_channels, border_effects
from posjax.ppp.silenced import ALIKE, AWARE, draw_alike, silenced
from posjax.results import Record, Result, to_records, write_records
from posjax.runs.conditions import load_encoder, tasks
from posjax.runs.image_sets import ImageSets
from posjax.runs.measure import Probe, Resources, measure
from posjax.runs.plan import prepare
from posjax.runs.readout_settings import ReadoutSettings
from posjax.runs.run import store_of
from posjax.runs.settings import Settings
from posjax.runs.workdir import Workdir
from posjax.runtime import progress, write_rows

FEWEST_IMAGES = 5
SHOWN, DRAWN = 6, 16  # channels in a picture, and the images that it is a mean over
COLUMNS = ("layer", "channel", "border", "effect", "low", "high", "p", "aware")


def run(
    settings: Settings, *, title: str, say: Callable[[str], None] = progress.say
) -> tuple[list[EncoderEffects], list[Result]]:
    """Lists padding-aware channels, silences them, and trains readouts on what is left.

    Readouts are trained on each encoder as it is, with its aware channels silenced, and with as
    many others of the same layers silenced, for each seed other ones. Writes padding_aware.csv,
    results.csv, controls.csv and report.html to the workdir. What is finished is not repeated.

    Raises:
        ValueError: settings, images, weights or a workdir that do not fit together.
    """
    # matplotlib comes with it. A program's help need not wait for that.
    from posjax.ppp.aware_report import text_tables, write_report

    _check(settings)
    plan = prepare(settings)
    if len(plan.sets.train) < FEWEST_IMAGES:
        raise ValueError(
            f"num_train: an interval needs {FEWEST_IMAGES} images or more, not "
            f"{len(plan.sets.train)}"
        )
    store = store_of(plan)
    store.check()
    workdir = Workdir(settings.workdir)
    workdir.claim(settings.identity(), plan.about)
    say(f"{plan}and of each encoder, readouts without its aware channels, and without others\n")
    for note in plan.notes:
        say(f"note: {note}")
    resources = Resources(plan.devices, store)
    sets = plan.sets.kept(settings.image_size, plan.images.place)
    everything: list[EncoderEffects] = []
    results: list[Result] = []
    records: list[Record] = []
    for condition in plan.conditions:
        encoder = load_encoder(settings, condition)
        borders = _measure(encoder, settings, sets.train, resources)
        measured = _find(encoder, borders, settings, sets.train)
        everything.append(measured)
        write_rows(workdir.path / "padding_aware.csv", *_rows(everything))
        for probe, readouts in _probes(settings, encoder, borders, measured, sets):
            for result in measure(probe, readouts, resources, workdir):
                results.append(result)
                records.extend(to_records(result))
            write_records(workdir.path, records)
    say(text_tables(everything, results))
    path = write_report(workdir.path, plan.facts, everything, results, title, plan.notes)
    say(f"report: {path}")
    return everything, results


def _check(settings: Settings) -> None:
    """Refuses settings that mean nothing here."""
    if settings.coordinator_address is not None:
        raise ValueError("coordinator_address: padding-aware channels are looked for on one host")
    unfit = [str(p) for p in settings.paddings if p.alignment or p.overrides]
    if unfit:
        raise ValueError(
            f"paddings: expected one mode for all layers, such as zeros; found {', '.join(unfit)}"
        )
    if settings.controls:
        raise ValueError(
            "controls: as many other channels of the same layers are the control here, and random "
            f"weights may be one of weights; expected none, found {', '.join(settings.controls)}"
        )


def _measure(
    encoder: Encoder, settings: Settings, source: Source, resources: Resources
) -> dict[str, LayerBorders]:
    size = min(settings.batch_size, 8 * len(resources.devices))
    return measure_borders(encoder, source, batch_size=size, devices=tuple(resources.devices))


def _find(
    encoder: Encoder, borders: dict[str, LayerBorders], settings: Settings, source: Source
) -> EncoderEffects:
    effects = border_effects(borders)
    is_first = encoder.seed in (None, settings.seeds[0])
    pictures = _pictures(encoder, effects, source) if is_first else {}
    padded = padded_convolutions(encoder, settings.image_size)
    left_out = [layer for layer in padded if layer not in borders]
    about = (encoder.name, encoder.weights, encoder.padding_text, encoder.seed)
    return EncoderEffects(*about, effects, left_out, pictures)


def _pictures(
    encoder: Encoder, effects: Sequence[BorderEffect], source: Source
) -> dict[Channel, ChannelMaps]:
    """Those of the channels with the largest effects."""
    strongest = sorted((row for row in effects if row.aware), key=lambda row: -abs(row.effect))
    chosen = list(dict.fromkeys((row.layer, row.channel) for row in strongest))[:SHOWN]
    images = np.stack([read_pixels(source, i) for i in range(min(len(source), DRAWN))])
    return channel_maps(encoder, images, chosen) if chosen else {}


def _probes(
    settings: Settings,
    encoder: Encoder,
    borders: dict[str, LayerBorders],
    measured: EncoderEffects,
    sets: ImageSets,
) -> Iterator[tuple[Probe, ReadoutSettings]]:
    """The encoder as it is, without its aware channels, and without as many others."""
    size, maps = settings.image_size, tasks(settings, "")
    yield Probe(encoder, sets, size, maps), settings
    chosen = aware_channels(measured.effects)
    if not chosen:
        return
    means = {layer: values.mean.mean(axis=0) for layer, values in borders.items()}
    sizes = {layer: len(mean) for layer, mean in means.items()}
    seeds = settings.seeds_of(encoder.seed)
    draws = [draw_alike(chosen, sizes, seed or 0) for seed in seeds]
    aware, *alike = silenced(encoder, [chosen, *draws], means, size)
    yield Probe(aware, sets, size, maps, AWARE), settings
    for seed, other in zip(seeds, alike, strict=True):
        readouts = settings if seed is None else dataclasses.replace(settings, seeds=(seed,))
        yield Probe(other, sets, size, maps, ALIKE), readouts


def _rows(everything: Sequence[EncoderEffects]) -> tuple[Sequence[str], list[list[Any]]]:
    rows = []
    for measured in everything:
        about = [measured.encoder, measured.weights, measured.padding, measured.seed]
        for effect in measured.effects:
            values = (getattr(effect, name) for name in COLUMNS)
            rows.append([*about, *(f"{v:.6g}" if isinstance(v, float) else v for v in values)])
    return ("encoder", "weights", "padding", "seed", *COLUMNS), rows
