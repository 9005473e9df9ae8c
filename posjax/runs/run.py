"""A run: the plan, one condition after the other, and what they leave in the workdir."""

import dataclasses
import importlib
import threading
from collections.abc import Callable, Sequence

import jax

from posjax import encoders, runtime
from posjax.encoders import RANDOM
from posjax.features import Store
from posjax.fitting import closed_form
from posjax.results import Record, Result, to_records
from posjax.runs.conditions import ROLL, Condition, conditions, load_encoder, tasks
from posjax.runs.image_sets import ImageSets, memory_bytes, open_sets
from posjax.runs.measure import Probe, Resources, measure
from posjax.runs.plan import Plan
from posjax.runs.settings import Settings
from posjax.runs.workdir import Workdir


def run(settings: Settings, *, title: str, say: Callable[[str], None] = print) -> list[Result]:
    """Probes the encoders under every padding, and writes table, report and figures.

    What is already finished in the workdir is not repeated. Random weights are drawn for each seed.
    `say` gets the plan before the work starts, and the table and the path of the report after it.
    In a multi-host run only the first host writes and says anything.

    Raises:
        ValueError, FileNotFoundError: settings, images, weights or a workdir that do not fit
            together, before anything is encoded; an image that cannot be read.
        OSError: there is no room for features, or they were deleted while they were written.
        FloatingPointError: a loss is not finite.
        ConnectionError: another host has stopped.
    """
    hosts = (settings.coordinator_address, settings.num_processes, settings.process_id)
    with runtime.distributed(*hosts):
        return _run(settings, title, say if runtime.is_first() else lambda _: None)


def _run(settings: Settings, title: str, say: Callable[[str], None]) -> list[Result]:
    # matplotlib comes with it. A program's help need not wait for that, nor should a run learn at
    # its end that it is missing.
    from posjax.report import text_table, write_report

    prepared = prepare(settings)
    store = _store(settings, prepared.plan)
    store.check()
    runtime.check_same(settings.identity() | {"precision": runtime.matmul_precision()})
    # Each host has devices and folders of its own.
    common = ("weight_digests", "image_digests", "normalize")
    runtime.check_same({name: prepared.about[name] for name in common})
    workdir = Workdir(settings.workdir)
    runtime.broadcast_object(lambda: workdir.claim(settings.identity(), prepared.about))
    say(str(prepared.plan))
    for note in prepared.notes:
        say(f"note: {note}")
    # With PyTorch installed its import takes more than a second. Devices encode meanwhile.
    threading.Thread(target=importlib.import_module, args=("tensorboardX",), daemon=True).start()
    resources = Resources(prepared.devices, store)
    results = _measure_all(settings, prepared, resources, workdir)
    if runtime.is_first():
        facts = prepared.plan.facts
        report = write_report(workdir.path, facts, results, title=title, notes=prepared.notes)
        say(text_table(results))
        if resources.waits.encoding:
            say(str(resources.waits))
        say(f"report: {report}")
    return results


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run has checked before it starts.

    `about` is what config.json says beside the settings: digests of weights and images, statistics,
    devices.
    """

    devices: Sequence[jax.Device]
    sets: ImageSets
    plan: Plan
    about: dict[str, object]
    notes: Sequence[str]


def prepare(settings: Settings) -> Prepared:
    """Opens images, reads weights, and checks that all of it fits together.

    Raises:
        ValueError, FileNotFoundError: settings, images or weights that do not fit together.
    """
    devices = runtime.local_devices(settings.devices)
    sets = open_sets(settings)
    plan = Plan(settings, tuple(conditions(settings)), sets, devices)
    plan.check()
    if settings.solver == "ridge":
        closed_form.check_images(len(sets.train))
    digests, statistics, notes = _read_weights(settings, plan.conditions)
    about = {
        "preset": settings.preset,
        "cache_dir": settings.cache_dir and str(settings.cache_dir),
        "weight_digests": digests,
        "image_digests": sets.digests,
        "normalize": statistics,
        "devices": runtime.describe_devices(devices),
    }
    plan = dataclasses.replace(plan, statistics=tuple(statistics))
    return Prepared(devices, sets, plan, about, [*sets.notes(settings.images), *notes])


def _store(settings: Settings, plan: Plan) -> Store:
    limit = settings.cache_limit_gb
    # All image sets of an encoder are kept at the same time.
    in_memory = limit is None and plan.feature_bytes <= memory_bytes() // 4
    return Store(
        settings.cache_dir,
        Workdir(settings.workdir).scratch(runtime.host()),
        None if limit is None else int(limit * 1e9),
        plan.feature_bytes if in_memory else 0,
    )


def _measure_all(
    settings: Settings, prepared: Prepared, resources: Resources, workdir: Workdir
) -> list[Result]:
    results: list[Result] = []
    records: list[Record] = []
    kept = _kept(settings, prepared)
    written = runtime.broadcast_object(workdir.count_records)
    for condition in prepared.plan.conditions:
        encoder = load_encoder(settings, condition)
        sets = kept[settings.image_size + sum(encoder.margins)]
        sets = sets.rolled() if condition.control == ROLL else sets
        maps = tuple(tasks(settings, condition.control))
        probe = Probe(encoder, sets, settings.image_size, maps, condition.control)
        for result in measure(probe, settings, resources, workdir):
            results.append(result)
            records.extend(to_records(result))
            # Do not rewrite the tables while replaying results that they already contain.
            if runtime.is_first() and len(records) > written:
                workdir.write_records(records)
    if runtime.is_first():
        workdir.write_records(records)
        workdir.remove_scratch(runtime.hosts())
    return results


def _kept(settings: Settings, prepared: Prepared) -> dict[int, ImageSets]:
    """The images of every size, by their side in pixels, each made once."""
    images = prepared.plan.images
    kept = {}
    for side in images:
        same = side == settings.image_size
        kept[side] = (prepared.sets if same else open_sets(settings, side)).kept(side, images.place)
    return kept


def _read_weights(
    settings: Settings, chosen: Sequence[Condition]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Digests by file, the statistics that images are normalised by, and notes on them."""
    digests: dict[tuple[str, str], str] = {}
    statistics, notes = set(), []
    for condition in chosen:
        if condition.padding is None or condition.weights == RANDOM:
            continue
        path = encoders.weights_path(condition.weights, condition.encoder, condition.padding.mode)
        if (path, condition.encoder) in digests:
            continue
        encoder = load_encoder(settings, condition)
        digests[path, condition.encoder] = encoder.digest
        statistics.add(encoder.normalize)
        loaded = encoders.read_weights(condition.encoder, path, condition.padding, 0)
        if settings.normalize == "encoder" and loaded.normalize is None:
            notes.append(
                f"{path} does not say how its images were normalised: ImageNet's statistics are "
                "taken"
            )
    if settings.normalize != "encoder":
        statistics = {settings.normalize}
    paths = [path for path, _ in digests]
    named = {
        path if paths.count(path) == 1 else f"{encoder}: {path}": digest
        for (path, encoder), digest in digests.items()
    }
    return named, sorted(statistics) or ["none"], notes
